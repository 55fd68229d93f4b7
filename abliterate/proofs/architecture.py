"""Proves an architecture on a shrunken clone, from disk to disk (docs/method.md, "The proof").

Clone, save, plan, edit the files, reload, run: at strength 1 the residual stream of what was reloaded must be silent
along the direction at every layer; at strength 0.5 it must equal the stream of the original under hooks. For an edit of
rank k that is tried with k directions, each at its own strength the second time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.architectures.clone import clone_inputs, random_clone
from abliterate.architectures.sites import SITES, Site
from abliterate.architectures.streams import clone_streams
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.edits.bias_sites import find_bias_sites
from abliterate.edits.plan import make_plan
from abliterate.edits.write import write_edited
from abliterate.errors import ProofError
from abliterate.interventions import ablated, hook_form
from abliterate.interventions.recipe import Recipe
from abliterate.projection import normalize, orthonormal_basis
from abliterate.storage.staging import Staging
from abliterate.storage.temporary import temporary_folder

SILENT_LIMIT = 1e-5
"""Largest `|resid[l]·r| / |resid[l]|` in float32 at strength 1: rounding reaches 1e-6."""

AGREE = 1e-4
"""Largest relative difference between the streams of hook form and weight form in float32 at strength 0.5."""


@dataclass(frozen=True)
class Proved:
    """What the proof found: `leak` before and after the edit and `difference` between the forms, largest over layers."""

    architecture: Architecture
    before: float
    leak: float
    difference: float


def prove(
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    architecture: Architecture | None = None,
    seed: int = 0,
    rank: int = 1,
) -> Proved:
    """Prove that the writers of `model_class` with `config` are all found and edited rightly, on a small clone.

    `architecture` is that of the clone; it is found unless it is given. `rank` is the number of directions. Raises ArchitectureError when it cannot be
    found, and ProofError naming the layer that leaks, or where hooks and weights disagree, and by how much.
    """
    with temporary_folder() as folder:
        place = Path(folder)
        random_clone(model_class, config, seed).save_pretrained(place / "clone")
        clone = load_proved(model_class, place / "clone")
        found = architecture or find_architecture(clone)
        inputs = clone_inputs(clone)
        basis = random_basis(min(rank, found.d_model // 2), found.d_model, seed)
        partly = Recipe.uniform(0.5) if len(basis) == 1 else own_strengths(len(basis))
        original = clone_streams(clone, found, inputs)
        silent = edited_streams(clone, found, basis, Recipe.uniform(), place, inputs)
        with ablated(clone, basis, partly, found):
            hooked = clone_streams(clone, found, inputs)
        halved = edited_streams(clone, found, basis, partly, place, inputs)
    leaks = [largest_component(stream, basis) for stream in silent]
    refuse(found, leaks, SILENT_LIMIT, "the edited clone still writes along the direction", "of the stream")
    apart = [float((one - other).norm() / one.norm()) for one, other in zip(hooked, halved, strict=True)]
    refuse(found, apart, AGREE, "hooks and edited weights disagree at strength 0.5", "relative difference")
    return Proved(found, max(largest_component(stream, basis) for stream in original), max(leaks), max(apart))


def random_basis(rank: int, d_model: int, seed: int) -> Float[Tensor, "k d_model"]:
    """Return random orthonormal rows."""
    rows = torch.randn(rank, d_model, generator=torch.Generator().manual_seed(seed))
    return normalize(rows) if rank == 1 else orthonormal_basis(rows)


def own_strengths(rank: int, sites: Sequence[Site] = SITES) -> Recipe:
    """Return a recipe of so many directions that removes a part of each: half of the first, a third of the second, and so on."""
    return Recipe(tuple(dict.fromkeys(sites, 1 / (2 + place)) for place in range(rank)))


def require_proof(
    model: PreTrainedModel, allow_unproved: bool = False, rank: int = 1
) -> tuple[Architecture, Proved | None]:
    """Find the writers of `model`, prove them on a clone, and return both; the proof is None where there is none.

    It is one for edits of `rank` directions.

    Raises ArchitectureError and ProofError as `prove` does, unless `allow_unproved`: then the architecture's
    `problems` say what is not proved.
    """
    found = find_architecture(model, allow_unproved)
    if found.problems:
        return found, None
    try:
        return found, prove(type(model), model.config, rank=rank)
    except ProofError as error:
        if not allow_unproved:
            raise
        return replace(found, problems=(str(error),)), None


def load_proved(model_class: type[PreTrainedModel], folder: Path) -> PreTrainedModel:
    """Return the clone that was saved in `folder`."""
    model = model_class.from_pretrained(folder, dtype=torch.float32, experts_implementation="eager")
    return model.eval()


def prove_addition(model: PreTrainedModel, seed: int = 0) -> float:
    """Prove on a small clone that biases on disk hold an addition: at every layer that has a bias for it.

    Returns the largest relative difference between the streams of the edited files and of `added`. Raises ProofError
    naming the layer where it is too large, ArchitectureError when no layer could hold an addition.
    """
    with temporary_folder() as folder:
        place = Path(folder)
        random_clone(type(model), model.config, seed).save_pretrained(place / "clone")
        clone = load_proved(type(model), place / "clone")
        found, inputs = find_architecture(clone), clone_inputs(clone)
        direction = normalize(torch.randn(found.d_model, generator=torch.Generator().manual_seed(seed)))
        worst = 0.0
        for layer in (layer for layer, one in find_bias_sites(clone, found).items() if one.bias):
            recipe = Recipe.adding(2.0, layer)
            with hook_form(clone, direction, recipe, found):
                hooked = clone_streams(clone, found, inputs)
            edited = edited_streams(clone, found, direction, recipe, place, inputs)
            apart = [float((one - other).norm() / one.norm()) for one, other in zip(hooked, edited, strict=True)]
            refuse(found, apart, AGREE, f"a bias does not add to resid[{layer}] what hooks add", "relative difference")
            worst = max(worst, *apart)
    return worst


def edited_streams(
    clone: PreTrainedModel,
    found: Architecture,
    direction: Float[Tensor, "*k d_model"],
    recipe: Recipe,
    place: Path,
    inputs: Mapping[str, Tensor],
) -> list[Tensor]:
    """Edit the saved clone on disk, reload it, and return its residual stream."""
    source = Checkpoint.open(place / "clone")
    plan = make_plan(recipe, direction, found, clone, source)
    with tempfile.TemporaryDirectory(dir=place) as empty:
        out = Path(empty) / "edited"
        with Staging.open(out, plan.digest, False, source.total_bytes) as staging:
            write_edited(plan, source, staging)
            staging.publish()
        return clone_streams(load_proved(type(clone), out), found, inputs)


def largest_component(stream: Float[Tensor, "... d_model"], basis: Float[Tensor, "k d_model"]) -> float:
    """Return the largest `|resid·R| / |resid|` over the tokens."""
    return float(((stream @ basis.double().T).norm(dim=-1) / stream.norm(dim=-1)).max())


def refuse(found: Architecture, per_layer: list[float], limit: float, problem: str, unit: str) -> None:
    """Raise ProofError naming the first layer above the limit; NaN is above it."""
    for layer, value in enumerate(per_layer):
        if not value <= limit:
            raise ProofError(
                f"{found.model_type}: {problem} at resid[{layer}]: {value:.1e} {unit}, {limit:.0e} allowed; "
                "please report it; --allow-unproved edits it nevertheless"
            )
