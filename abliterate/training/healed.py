"""A healed model on disk: written as a merged checkpoint or an adapter, read again, and proved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.architectures.wrappers import live_parameter
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.errors import InputError, ProofError
from abliterate.interventions.recipe import Recipe
from abliterate.models.loading import load_model, stored_dtype
from abliterate.models.source import Source
from abliterate.projection import frobenius
from abliterate.proofs.stream import SILENCE, check_reference, relative_component
from abliterate.records.manifest import manifest_beside
from abliterate.storage.names import ADAPTER, DIRECTIONS, LOCAL, RECIPE
from abliterate.storage.staging import Staging
from abliterate.training.lora import save_adapter

SHARD_BYTES = "5GB"

HEALED_ROUNDING = 4
"""So many roundings of a random component may come back; merging into bfloat16 was measured to bring a quarter of one."""


@dataclass(frozen=True)
class KeptOut:
    """The proof, from the files.

    `drift` is how far a writer's component along the direction moved, at most and relative to that of a random
    direction; `limit` is what rounding explains. `per_layer` is, where the edit was at strength 1 everywhere, the largest
    `|resid·R| / |resid|` at each layer, which must not exceed `silence`.
    """

    drift: float
    limit: float
    per_layer: tuple[float, ...] = ()
    silence: float | None = None


def write(adapted: Any, source: Source, staging: Staging, adapter: bool, keep_path: bool = False) -> None:
    """Write a trained `peft.PeftModel` into the staging folder, merged or alone, with recipe and directions of the edit.

    An adapter names its model as `Source.adapter_base` has it. The LoRA is merged for good. Figures of the model before it was healed do not travel. Raises InputError where merging
    rounded all of it away.
    """
    if adapter:
        save_adapter(adapted, source, staging.folder, keep_path)
        staging.copy_file(source.folder / RECIPE, RECIPE)
    else:
        merged = adapted.merge_and_unload().to(stored_dtype(source))  # in whichever it ran, the files keep theirs
        merged.save_pretrained(staging.folder, max_shard_size=SHARD_BYTES)
        require_other_weights(source.checkpoint, Checkpoint.open(staging.folder))
        for path in source.checkpoint.files():
            # An adapter that lies beside the edited checkpoint is one of its own forms, with its own card and figures.
            own = path.parent != Path() and (source.folder / path.parent / ADAPTER).is_file()
            if not own and path.as_posix() != source.checkpoint.index and path.name not in LOCAL:
                staging.copy_file(source.folder / path, path.as_posix())
    staging.copy_file(source.folder / DIRECTIONS, DIRECTIONS)


def require_other_weights(source: Checkpoint, healed: Checkpoint) -> None:
    """Raise InputError where every tensor of the healed checkpoint is that of the one that it was made from."""
    for name in healed.tensors:
        if name in source.tensors and not torch.equal(healed.read(name).float(), source.read(name).float()):
            return
    dtypes = ", ".join(sorted({str(entry.dtype) for entry in healed.tensors.values()}))
    raise InputError(
        f"healing changed no weight: what was learned is below one rounding of {dtypes}; take more steps, a higher learning "
        "rate, or write an adapter"
    )


def edited_from(source: Source) -> dict[str, Any] | None:
    """Return name and revision of the model that an edited one was made from, None where it does not say."""
    found = (manifest_beside(source.folder) or {}).get("source")
    if not isinstance(found, dict) or not isinstance(found.get("model"), str):
        return None
    return {"model": found["model"], "revision": found.get("revision")}


def reopened(source: Source, staging: Staging, dtype: str, device: str, adapter: bool) -> PreTrainedModel:
    """Return the healed model from the files in the staging folder."""
    if not adapter:
        return load_model(source, dtype, device, Checkpoint.open(staging.folder))
    from peft import PeftModel

    base = load_model(source, dtype, device)
    healed: PreTrainedModel = PeftModel.from_pretrained(base, str(staging.folder)).merge_and_unload()
    return healed


@dataclass(frozen=True)
class Components:
    """What one weight of a writer holds along the direction, row by row, and the size of a random component."""

    rows: Float[Tensor, "... k"]
    usual: float


def healed_components(
    model: PreTrainedModel, architecture: Architecture, basis: Float[Tensor, "k d_model"], recipe: Recipe
) -> dict[str, Components]:
    """Return what the writers that the recipe edits hold along the direction, weight by weight."""
    found = {}
    with torch.no_grad():
        for writer in architecture.writers:
            if recipe.strength(writer.site, writer.layer):
                own = writer.basis(basis, lambda name: live_parameter(model, name))
                for one in writer.parameters:
                    name = f"{writer.module}.{one.name}"
                    weight = live_parameter(model, name)
                    rows = weight.movedim(one.axis, -1).float() @ own.T.to(weight.device)
                    usual = frobenius(weight) * math.sqrt(len(own) / weight.shape[one.axis])
                    found[name] = Components(rows.cpu(), usual)
    return found


def prove_healed(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    basis: Float[Tensor, "k d_model"],
    recipe: Recipe,
    before: Mapping[str, Components],
    stored: torch.dtype = torch.float32,
) -> KeptOut:
    """Prove that a healed model holds along the direction what it held before, and is silent if the edit was complete.

    `stored` is the dtype of the weights on disk, where the model was loaded in a finer one. Raises ProofError naming the weight, or the layer.
    """
    architecture = find_architecture(model)
    coarsest = max((stored, model.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    limit = HEALED_ROUNDING * torch.finfo(coarsest).eps
    drifts = {
        name: float((after.rows - before[name].rows).norm()) / max(before[name].usual, after.usual, 1e-30)
        for name, after in healed_components(model, architecture, basis, recipe).items()
    }
    for name, drift in drifts.items():
        if not math.isfinite(drift):
            raise ProofError(
                f"{name}: holds NaN or infinity after healing; lower the learning rate, or pass --dtype float32"
            )
    worst = max(drifts, key=lambda name: drifts[name])
    if not drifts[worst] <= limit:
        raise ProofError(
            f"{worst}: healing brought {drifts[worst]:.1e} of a random component back along the direction, {limit:.1e} "
            "allowed; please report it"
        )
    if not recipe.exact:
        return KeptOut(drifts[worst], limit)
    per_layer = relative_component(model, architecture, basis, sequences, ProofError)
    check_reference("the healed model writes along the direction", per_layer, SILENCE[coarsest])
    return KeptOut(drifts[worst], limit, tuple(per_layer), SILENCE[coarsest])
