"""An edit as a PEFT adapter: a LoRA whose factors are the edit itself, `dW = (-s R^T) (R W)`, not an approximation of it.

The factors come from the original checkpoint, tensor by tensor. On the edited checkpoint, the same adapter with its
scaling times -1 gives the original back (`peft.helpers.rescale_adapter_scale`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.architectures.clone import clone_inputs, random_clone
from abliterate.architectures.sites import Site
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.shards import failing
from abliterate.edits.bias_sites import Addition, find_bias_sites
from abliterate.edits.plan import EditPlan, make_plan
from abliterate.edits.stored import Stored
from abliterate.errors import InputError, first_line
from abliterate.exports.forms import Export, PlannedEdit, Written
from abliterate.exports.peft_factors import (
    FactoredLayer,
    adapter_config,
    as_loaded,
    bias_change,
    config_text,
    injected,
    lora_config_of,
    named_factors,
    peft_factors,
)
from abliterate.exports.peft_targets import WAY_OUT, PeftTarget, check_biases, find_targets, target_kind
from abliterate.extras import require
from abliterate.interventions import hook_form
from abliterate.interventions.recipe import Recipe
from abliterate.progress import SILENT, Progress
from abliterate.projection import orthonormal_basis
from abliterate.proofs import architecture as proof
from abliterate.storage.names import ADAPTER, ADAPTER_WEIGHTS
from abliterate.storage.staging import Staging, check_free
from abliterate.storage.temporary import temporary_folder


@dataclass(frozen=True)
class Prepared:
    """An adapter before its factors are computed: the weights that get a LoRA, and what PEFT makes of its config.

    `biases` are what is added to the biases of layers, by module; empty where nothing is.
    """

    targets: tuple[PeftTarget, ...]
    biases: Mapping[str, Float[Tensor, " d_model"]]
    config: Any
    layers: Mapping[str, FactoredLayer]

    @property
    def nbytes(self) -> int:
        """Return the bytes of all factors."""
        return sum(4 * math.prod(shape) for layer in self.layers.values() for shape in layer.shapes)


def export_form(export: Export) -> Written:
    """Write the edit for PEFT, with its records and a proof."""
    edit = export.planned()
    source = edit.source
    base = source.adapter_base(export.keep_paths)
    files = prepare_adapter(edit.plan, source.empty, edit.architecture, source.checkpoint, *base)

    def write(staging: Staging) -> None:
        write_files(files, source.empty, source.checkpoint, staging, export.progress)

    return Written(export.as_adapter(edit, files.nbytes, write))


def check_form(edit: PlannedEdit, leave_out: Collection[Site] = ()) -> None:
    """Raise InputError where no adapter could hold an edit like this one exactly; no weights are read.

    It leaves out nothing: `leave_out` is of forms that cannot hold all sites.
    """
    source = edit.source
    prepare_adapter(edit.plan, source.empty, edit.architecture, source.checkpoint, source.public_name, source.revision)


def write_adapter(
    plan: EditPlan,
    model: PreTrainedModel,
    architecture: Architecture,
    checkpoint: Checkpoint,
    base_name: str,
    revision: str | None,
    out: Path,
    progress: Progress = SILENT,
    force: bool = False,
) -> None:
    """Write `plan` as the folder of a LoRA adapter for the model `base_name`, which `PeftModel.from_pretrained` reads.

    `model`, which may be on the meta device, gives names and shapes; `checkpoint` is the original. The factors are
    float32, of the rank of the basis. A tied embedding gets them in both of its roles, and PEFT adds both to the one
    tensor when it merges: `untie` the model before that. Proved on a small clone first, unless the architecture has
    problems. Raises InputError for an edit that no LoRA holds exactly, naming the tensor, without the `peft` package,
    and when `out` exists (unless `force`).
    """
    check_free(out, force)
    prepared = prepare_adapter(plan, model, architecture, checkpoint, base_name, revision)
    identity = f"adapter {plan.digest} {base_name} {revision}"
    with Staging.open(out, identity, force, prepared.nbytes) as staging:
        write_files(prepared, model, checkpoint, staging, progress)
        checkpoint.snapshot.require_unchanged()
        staging.publish()


def prepare_adapter(
    plan: EditPlan,
    model: PreTrainedModel,
    architecture: Architecture,
    checkpoint: Checkpoint,
    base_name: str,
    revision: str | None,
) -> Prepared:
    """Return the adapter of a plan, proved on a small clone first, unless the architecture has problems.

    Raises InputError for an edit that no LoRA holds exactly, and without the `peft` package.
    """
    require("train", "writing an adapter", "peft")
    prepared = lay_out(plan, model, architecture, checkpoint, base_name, revision)
    if not architecture.problems:
        sites = dict.fromkeys(edit.site for edit in plan.edits.values())
        mixed = len(plan.recipe.each) > 1
        tried = proof.own_strengths(len(plan.basis), [*sites]) if mixed else Recipe(dict.fromkeys(sites, 0.7))
        recipe = plan.recipe if plan.addition else tried
        prove_adapter(model, recipe, len(plan.basis), bool(prepared.biases))
    return prepared


def lay_out(
    plan: EditPlan,
    model: PreTrainedModel,
    architecture: Architecture,
    checkpoint: Checkpoint,
    base_name: str,
    revision: str | None,
) -> Prepared:
    """Do `prepare` without the proof."""
    plan.recipe.require_projection("an adapter")
    if plan.addition:
        return lay_out_addition(plan.addition, plan.basis[0], model, base_name, revision)
    targets = as_loaded(find_targets(plan, model, architecture, Stored.of(model, checkpoint)), model)
    biases = {target.module: bias_change(target, checkpoint) for target in targets if target.bias}
    changed = [target for target in targets if target.module in biases and bool(biases[target.module].any())]
    check_biases(targets, model, changed)
    config = lora_config_of(targets, bool(changed), base_name, revision)
    return Prepared(targets, biases if changed else {}, config, injected(config, model))


def lay_out_addition(
    addition: Addition,
    direction: Float[Tensor, " d_model"],
    model: PreTrainedModel,
    base_name: str,
    revision: str | None,
) -> Prepared:
    """Return the adapter that adds a vector: a LoRA of rank 1 whose factors are zero, and whose bias is the vector.

    Raises InputError where PEFT puts no LoRA on it.
    """
    module = addition.bias_site.writer.module
    kind = target_kind(model.get_submodule(module), "weight")
    config = adapter_config([module], 1, True, base_name, revision, fan_in_fan_out=kind == "conv1d")
    layers = injected(config, model)
    if list(layers) != [f"{module}.weight"]:
        raise InputError(f"{module}: PEFT puts no LoRA on it; use the hooks (`abliterate.added`)")
    return Prepared((), {module: addition.strength * direction}, config, layers)


def write_files(
    prepared: Prepared, model: PreTrainedModel, checkpoint: Checkpoint, staging: Staging, progress: Progress = SILENT
) -> None:
    """Write both files of an adapter."""
    tensors: dict[str, Tensor] = {}
    with progress.step("writing the adapter", len(prepared.targets), "tensors") as advance:
        for target in prepared.targets:
            tensors |= named_factors(target, prepared.layers, peft_factors(target, model, checkpoint))
            if target.module in prepared.biases:
                tensors[prepared.layers[target.parameter].bias] = prepared.biases[target.module]
            advance(1)
    for module in set(prepared.biases) - {target.module for target in prepared.targets}:
        layer = prepared.layers[f"{module}.weight"]
        tensors |= {name: torch.zeros(shape) for name, shape in zip(layer.names, layer.shapes, strict=True)}
        tensors[layer.bias] = prepared.biases[module].contiguous()
    with failing(f"{staging.path(ADAPTER_WEIGHTS)} cannot be written"):
        staging.path(ADAPTER_WEIGHTS).write_bytes(save(tensors, {"format": "pt"}))
    staging.finish(ADAPTER_WEIGHTS)
    staging.write_text(ADAPTER, config_text(prepared.config))


def prove_adapter(model: PreTrainedModel, recipe: Recipe, rank: int, biased: bool) -> None:
    """Prove that adapters of a kind are exact for models like `model`: on a small random clone, from disk to logits.

    `recipe` is one for all layers; or it adds, which is then tried at every layer of the clone.
    `biased` is whether the edit changes biases of layers; else the clone's are zero. Raises InputError where the clone
    with its adapter does not run, or its logits are not those of the hook form.
    """
    with temporary_folder() as folder:
        place = Path(folder)
        random_clone(type(model), model.config).save_pretrained(place / "clone")
        clone = proof.load_proved(type(model), place / "clone")
        found = find_architecture(clone)
        if not biased:
            zero_biases(clone, found)
            clone.save_pretrained(place / "clone")
        basis = orthonormal_basis(torch.randn(rank, found.d_model, generator=torch.Generator().manual_seed(0)))
        tried = [recipe]
        if recipe.added is not None:
            tried = [Recipe.adding(2.0, layer) for layer in find_bias_sites(clone, found)]
        worst = max(difference_on_clone(place, type(model), found, basis, one) for one in tried)
    if not worst <= proof.AGREE:
        raise InputError(
            f"{found.model_type}: on a small model of this kind an adapter is not exact (relative difference of the "
            f"logits {worst:.1e}, {proof.AGREE:.0e} allowed); {WAY_OUT}"
        )


def difference_on_clone(
    place: Path,
    model_class: type[PreTrainedModel],
    found: Architecture,
    basis: Float[Tensor, "k d_model"],
    recipe: Recipe,
) -> float:
    """Return the relative difference of a clone's logits with its adapter from those under hooks."""
    clone, source = proof.load_proved(model_class, place / "clone"), Checkpoint.open(place / "clone")
    plan = make_plan(recipe, basis, found, clone, source)
    with Staging.open(place / "adapter", plan.digest, force=True) as staging:
        write_files(lay_out(plan, clone, found, source, "clone", None), clone, source, staging)
        staging.publish()
    with hook_form(clone, basis, recipe, found):
        expected = logits(clone)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of merging, which is not done here
            clone.load_adapter(str(place / "adapter"))
        return float((logits(clone) - expected).norm() / expected.norm())
    except InputError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{found.model_type}: a small model of this kind does not run with an adapter ({first_line(error)}); {WAY_OUT}"
        ) from error


def zero_biases(clone: PreTrainedModel, found: Architecture) -> None:
    """Set the biases of the layers that write to zero."""
    with torch.no_grad():
        for writer in found.writers:
            names = [one.name for one in writer.parameters]
            if "bias" in names and "weight" in names:
                clone.get_parameter(f"{writer.module}.bias").zero_()


def logits(clone: PreTrainedModel) -> Float[Tensor, "batch token vocabulary"]:
    """Return the logits of a clone on its inputs."""
    with torch.no_grad():
        found: Tensor = clone(**clone_inputs(clone), use_cache=False).logits
    return found
