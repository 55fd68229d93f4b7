"""What the search turns: a strength per layer and site, and a direction on the sphere, as a differentiable edit.

Of several directions each has strengths of its own, and all stay orthonormal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture
from abliterate.architectures.sites import SITES, Site
from abliterate.interventions import projected
from abliterate.interventions.recipe import Recipe, Strengths
from abliterate.projection import normalize, orthonormal_basis, orthonormal_span

STRONGEST = 1.5
"""Strengths stay between 0 and this: beyond 1 a writer writes against the direction, and far beyond it says nothing else."""

STRENGTH_STEP = 0.05
"""What Adam may change a strength by in one step, at first."""

TURN = 0.3
"""What it may turn the direction by in one step, at first, in radians and about: over `sqrt(d_model)` per number."""

VARIABLE_NAME = "learned"
"""What the direction is called in `directions.safetensors`; several are `learned.1`, `learned.2` and so on."""


@dataclass(frozen=True)
class Variables:
    """Strengths of each site `[L]` (of the embedding `[1]`) and a direction `[d_model]`, all float32 on the CPU.

    Of `k` directions, `[k, d_model]`, the strengths are `[L, k]`.
    """

    strengths: dict[Site, Float[Tensor, "layers *k"]]
    direction: Float[Tensor, "*k d_model"]

    @classmethod
    def start(
        cls, architecture: Architecture, direction: Float[Tensor, "*k d_model"], sites: Sequence[Site] = SITES
    ) -> Variables:
        """Return strength 1 everywhere in `sites`: the edit of the automatic choice. Of several rows, only the first has it.

        The others begin at 0, so that a search of any rank begins with the same edit.
        """
        held = {writer.site for writer in architecture.writers} & set(sites)
        sizes = {site: 1 if site == "embed" else architecture.depth for site in SITES if site in held}
        if direction.dim() == 1:
            return cls({site: torch.ones(size) for site, size in sizes.items()}, normalize(direction.float()))
        first = torch.eye(len(direction))[0]
        return cls({site: first.repeat(size, 1) for site, size in sizes.items()}, orthonormal_basis(direction))

    def tensors(self) -> list[Tensor]:
        """Return everything that is turned, the direction last."""
        return [*self.strengths.values(), self.direction]

    def groups(self) -> list[dict[str, Any]]:
        """Return the same in groups for the optimizer, with the lengths of their first steps."""
        strengths = {"params": list(self.strengths.values()), "lr": STRENGTH_STEP}
        return [strengths, {"params": [self.direction], "lr": TURN / self.direction.shape[-1] ** 0.5}]

    def copy(self) -> Variables:
        """Return the same values, free of this one's gradients."""
        strengths = {site: one.detach().clone() for site, one in self.strengths.items()}
        return Variables(strengths, self.direction.detach().clone())

    def bound(self) -> None:
        """Bring strengths back between 0 and the strongest, and the direction back to the sphere, in place.

        Several directions become orthonormal again, in their order.
        """
        with torch.no_grad():
            for one in self.strengths.values():
                one.clamp_(0.0, STRONGEST)
            several = self.direction.dim() == 2
            self.direction.copy_(orthonormal_basis(self.direction) if several else normalize(self.direction))

    @contextmanager
    def applied(self, model: PreTrainedModel, architecture: Architecture) -> Iterator[None]:
        """Edit the model inside the context, by hooks; gradients reach `tensors`."""
        several = self.direction.dim() == 2
        # Gram-Schmidt, so that gradients turn directions and never lengthen them or bring them together.
        rows = orthonormal_span(self.direction) if several else (self.direction / self.direction.norm())[None]
        basis = rows[None]  # one for all: gradients of several would be summed in another order
        edits = {
            writer: (basis, self.of_writer(writer.site, writer.layer))
            for writer in architecture.writers
            if writer.site in self.strengths
        }
        with projected(model, architecture, edits):
            yield

    def of_writer(self, site: Site, layer: int | None) -> Float[Tensor, "*bases_k"]:
        """Return the strength of a writer: one, or one for each direction as `[1, k]`."""
        own = self.strengths[site][layer or 0]
        return own[None] if own.dim() else own

    def rows(self) -> dict[str, Float[Tensor, " d_model"]]:
        """Return the directions by their names, as `directions.safetensors` holds them."""
        rows = self.direction if self.direction.dim() == 2 else self.direction[None]
        return {name: row.contiguous() for name, row in zip(self.recipe().names, rows, strict=True)}

    def recipe(self) -> Recipe:
        """Return the strengths as `recipe.json` holds them."""
        if self.direction.dim() == 1:
            return Recipe(recipe_strengths(self.strengths), VARIABLE_NAME)
        places = range(len(self.direction))
        each = tuple(recipe_strengths({site: one[:, at] for site, one in self.strengths.items()}) for at in places)
        return Recipe(each, tuple(f"{VARIABLE_NAME}.{at + 1}" for at in places))


def recipe_strengths(strengths: Mapping[Site, Float[Tensor, " layers"]]) -> Strengths:
    """Return the strengths of one direction as a recipe has them."""
    return {
        site: float(one) if site == "embed" else tuple(float(value) for value in one) for site, one in strengths.items()
    }


def is_learned(recipe: Recipe) -> bool:
    """Tell whether a recipe is of directions that a search has turned."""
    return all(name == VARIABLE_NAME or name.startswith(f"{VARIABLE_NAME}.") for name in recipe.names) and bool(
        recipe.names
    )
