"""What the search turns: a strength per layer and site, and one direction on the sphere, as a differentiable edit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from abliterate.interventions.recipe import Recipe
from abliterate.projection import normalize

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
    """Strengths of each site `[L]` (of the embedding `[1]`) and a direction `[d_model]`, all float32 on the CPU."""

    strengths: dict[Site, Float[Tensor, " layers"]]
    direction: Float[Tensor, " d_model"]

    @classmethod
    def start(
        cls, architecture: Architecture, direction: Float[Tensor, " d_model"], sites: Sequence[Site] = SITES
    ) -> Variables:
        """Return strength 1 everywhere in `sites`: the edit of the automatic choice."""
        held = {writer.site for writer in architecture.writers} & set(sites)
        sizes = {site: 1 if site == "embed" else architecture.depth for site in SITES if site in held}
        return cls({site: torch.ones(size) for site, size in sizes.items()}, normalize(direction.float()))

    def tensors(self) -> list[Tensor]:
        """Return everything that is turned, the direction last."""
        return [*self.strengths.values(), self.direction]

    def groups(self) -> list[dict[str, Any]]:
        """Return the same in groups for the optimizer, with the lengths of their first steps."""
        strengths = {"params": list(self.strengths.values()), "lr": STRENGTH_STEP}
        return [strengths, {"params": [self.direction], "lr": TURN / self.direction.numel() ** 0.5}]

    def copy(self) -> Variables:
        """Return the same values, free of this one's gradients."""
        strengths = {site: one.detach().clone() for site, one in self.strengths.items()}
        return Variables(strengths, self.direction.detach().clone())

    def bound(self) -> None:
        """Bring strengths back between 0 and the strongest, and the direction back to the sphere, in place."""
        with torch.no_grad():
            for one in self.strengths.values():
                one.clamp_(0.0, STRONGEST)
            self.direction.copy_(normalize(self.direction))

    @contextmanager
    def applied(self, model: PreTrainedModel, architecture: Architecture) -> Iterator[None]:
        """Edit the model inside the context, by hooks; gradients reach `tensors`."""
        basis = (self.direction / self.direction.norm())[None, None]
        edits = {
            writer: (basis, self.strengths[writer.site][writer.layer or 0])
            for writer in architecture.writers
            if writer.site in self.strengths
        }
        with projected(model, architecture, edits):
            yield

    def rows(self) -> dict[str, Float[Tensor, " d_model"]]:
        """Return the direction by its name, as `directions.safetensors` holds it."""
        return {VARIABLE_NAME: self.direction.contiguous()}

    def recipe(self) -> Recipe:
        """Return the strengths as `recipe.json` holds them."""
        return Recipe(
            {
                site: float(one) if site == "embed" else tuple(float(value) for value in one)
                for site, one in self.strengths.items()
            },
            VARIABLE_NAME,
        )


def is_learned(recipe: Recipe) -> bool:
    """Tell whether a recipe is of directions that a search has turned."""
    return all(name == VARIABLE_NAME or name.startswith(f"{VARIABLE_NAME}.") for name in recipe.names) and bool(
        recipe.names
    )
