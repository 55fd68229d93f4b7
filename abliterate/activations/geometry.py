"""Where harmful and harmless prompts part: how far along the direction, layer by layer, and in the plane of most variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.capture import Activations, check_finite
from abliterate.activations.separation import held_out


@dataclass(frozen=True)
class Geometry:
    """Separation at every position and layer, and the first two principal components at one position.

    `auc` is the share of (harmful, harmless) pairs of prompts that the direction orders rightly, `d` Cohen's d: both
    on prompts that the direction does not rest on. `explained` are shares of the variance. `instruction_end` is the one of
    the positions that ends the instruction, where it is among them.
    """

    positions: tuple[int, ...]
    auc: Float[Tensor, "positions layers"]
    d: Float[Tensor, "positions layers"]
    position: int
    explained: Float[Tensor, "layers 2"]
    harmful: Float[Tensor, "layers harmful 2"]
    harmless: Float[Tensor, "layers harmless 2"]
    instruction_end: int | None = None

    def to_json(self, harmful: Sequence[str], harmless: Sequence[str]) -> dict[str, Any]:
        """Return it with the texts of the prompts; what is not defined is None, coordinates have four digits."""
        layers = [
            {
                "layer": layer,
                "explained": rounded_numbers(self.explained[layer]),
                "harmful": points(one),
                "harmless": points(other),
            }
            for layer, (one, other) in enumerate(zip(self.harmful, self.harmless, strict=True))
        ]
        return {
            "separation": {
                "positions": list(self.positions),
                "instruction_end": self.instruction_end,
                "layers": list(range(len(layers))),
                "auc": [rounded_numbers(row) for row in self.auc],
                "d": [rounded_numbers(row) for row in self.d],
            },
            "pca": {
                "position": self.position,
                "prompts": {"harmful": list(harmful), "harmless": list(harmless)},
                "layers": layers,
            },
        }


def geometry(
    harmful: Activations, harmless: Activations, position: int, instruction_end: int | None = None
) -> Geometry:
    """Return the geometry of two sides that were captured at the same positions; the components are those at `position`.

    Each half of the prompts is scored along the difference in means of the other half, so that the separation is that
    of prompts which were not seen. Raises InputError, naming the prompt, for activations that are NaN or infinite.
    """
    check_finite(harmful.resid)
    check_finite(harmless.resid)
    here = harmful.positions.index(position)
    auc, d = held_out(harmful.resid, harmless.resid)
    parts = [
        principal_components(*(one.resid[:, here, layer].cpu().double() for one in (harmful, harmless)))
        for layer in range(harmful.resid.shape[2])
    ]
    explained, first, second = (torch.stack(part) for part in zip(*parts, strict=True))
    return Geometry(harmful.positions, auc, d, position, explained, first, second, instruction_end)


def principal_components(
    harmful: Float[Tensor, "harmful d_model"], harmless: Float[Tensor, "harmless d_model"]
) -> tuple[Float[Tensor, " 2"], Float[Tensor, "harmful 2"], Float[Tensor, "harmless 2"]]:
    """Return the explained shares of the first two principal components, and both sides in them.

    From the products of the prompts, which are fewer than the numbers of a vector. Harmful lies to the right.
    """
    together = torch.cat([harmful, harmless])
    together = together - together.mean(0)
    values, vectors = torch.linalg.eigh(together @ together.T)
    values = values.clamp(min=0)
    explained = values[[-1, -2]] / values.sum()
    placed = vectors[:, [-1, -2]] * values[[-1, -2]].sqrt()
    placed = placed * torch.where(placed[: len(harmful)].mean(0) < placed[len(harmful) :].mean(0), -1.0, 1.0)
    return explained, placed[: len(harmful)], placed[len(harmful) :]


def rounded_numbers(values: Float[Tensor, " _"]) -> list[float | None]:
    """Return plain numbers of four digits; None for what is not defined."""
    return [float(f"{value:.4g}") if value == value else None for value in values.tolist()]


def points(values: Float[Tensor, "_ 2"]) -> list[list[float | None]]:
    """Return points as pairs of plain numbers."""
    return [rounded_numbers(value) for value in values]
