"""How well a direction parts two sides of prompts, at every position and layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.notebook import frame_of, lines_by_layer, small_table
from abliterate.errors import InputError

TITLES = {
    "auroc": "AUROC",
    "cohens_d": "Cohen's d",
    "cosine_of_halves": "cosine of the directions of two halves",
}
"""The measures by their names, each with its title."""

HALVES = (slice(0, None, 2), slice(1, None, 2))

LEAST = 4
"""Prompts a side: two halves, and in each a spread."""


@dataclass(frozen=True, repr=False)
class Separation:
    """How well directions part harmful from harmless prompts, `[positions, layers]` each; NaN where all prompts are equal.

    `auroc` is the share of (harmful, harmless) pairs that the direction orders rightly, ties counting half; `cohens_d` the
    distance of the means in pooled standard deviations; `cosine_of_halves` how alike the directions are that two halves
    of the prompts give.

    Examples:
        >>> found = capture(model, tokenizer, harmful).separation(capture(model, tokenizer, harmless))
        >>> found
        Separation(resid[0..8], positions -4..-1, AUROC up to 1.00)
        >>> position, layer = found.best()
        >>> found.auroc[found.positions.index(position), layer] == 1
        tensor(True)
        >>> found.to_pandas().loc[(-1, 4)].round(2).to_dict()["auroc"]
        1.0
    """

    positions: tuple[int, ...]
    auroc: Float[Tensor, "positions layers"]
    cohens_d: Float[Tensor, "positions layers"]
    cosine_of_halves: Float[Tensor, "positions layers"]

    def __repr__(self) -> str:
        most = float(self.auroc.nan_to_num(0.5).max())
        return f"Separation({places_of(self.positions, self.auroc.shape[1])}, AUROC up to {most:.2f})"

    def _repr_html_(self) -> str:
        rows = {}
        for place, position in enumerate(self.positions):
            layer = int(self.cohens_d[place].nan_to_num(-torch.inf).argmax())
            figures = (f"{TITLES[name]} {float(self.values(name)[place, layer]):.2f}" for name in TITLES)
            rows[f"position {position}"] = f"layer {layer}: " + ", ".join(figures)
        return small_table(f"Separation, {places_of(self.positions, self.auroc.shape[1])}", rows)

    def values(self, measure: str) -> Float[Tensor, "positions layers"]:
        """Return one of the measures by its name. Raises InputError for an unknown name."""
        if measure not in TITLES:
            raise InputError(f"measure {measure!r}: unknown; choose among {', '.join(TITLES)}")
        found: Tensor = getattr(self, measure)
        return found

    def best(self, measure: str = "cohens_d") -> tuple[int, int]:
        """Return the position and layer where a measure is highest."""
        place, layer = divmod(int(self.values(measure).nan_to_num(-torch.inf).argmax()), self.auroc.shape[1])
        return self.positions[place], layer

    def to_pandas(self) -> Any:
        """Return a data frame with a row for every (position, layer) and a column for every measure."""
        values = torch.stack([self.values(name) for name in TITLES], dim=-1)
        return frame_of(values, {"position": self.positions, "layer": range(values.shape[1])}, list(TITLES))

    def plot(self, measure: str = "auroc") -> Any:
        """Return a plotly Figure of a measure by layer, a line for each position."""
        return lines_by_layer(TITLES.get(measure, ""), self.values(measure), self.positions)


def places_of(positions: tuple[int, ...], layers: int) -> str:
    """Return layers and positions in words, as short representations name them."""
    first, last = positions[0], positions[-1]
    in_a_row = positions == tuple(range(first, last + 1)) and len(positions) > 1
    shown = f"{first}..{last}" if in_a_row else ", ".join(map(str, positions))
    return f"resid[0..{layers - 1}], position{'s' if len(positions) > 1 else ''} {shown}"


def plane_scores(
    harmful: Float[Tensor, "a positions d_model"],
    harmless: Float[Tensor, "b positions d_model"],
    unseen_harmful: Float[Tensor, "c positions d_model"],
    unseen_harmless: Float[Tensor, "e positions d_model"],
) -> tuple[Float[Tensor, " positions"], Float[Tensor, " positions"]]:
    """Return AUC and Cohen's d of unseen prompts along the difference in means of the seen ones; NaN where all are equal."""
    return scores_along(harmful.mean(0) - harmless.mean(0), unseen_harmful, unseen_harmless)


def scores_along(
    direction: Float[Tensor, "positions d_model"],
    harmful: Float[Tensor, "a positions d_model"],
    harmless: Float[Tensor, "b positions d_model"],
) -> tuple[Float[Tensor, " positions"], Float[Tensor, " positions"]]:
    """Return AUC and Cohen's d of two sides along a direction of each position; NaN where all are equal."""
    one, other = (harmful * direction).sum(-1), (harmless * direction).sum(-1)
    gap = one[:, None] - other[None]
    auc = ((gap > 0).double() + 0.5 * (gap == 0)).mean((0, 1))
    spread = ((one.var(0) + other.var(0)) / 2).sqrt()
    d = (one.mean(0) - other.mean(0)) / spread
    undefined = spread == 0
    return auc.masked_fill(undefined, torch.nan), d.masked_fill(undefined, torch.nan)


def held_out(
    harmful: Float[Tensor, "a positions layers d_model"], harmless: Float[Tensor, "b positions layers d_model"]
) -> tuple[Float[Tensor, "positions layers"], Float[Tensor, "positions layers"]]:
    """Return AUC and Cohen's d of each half of the prompts along the difference in means of the other half, averaged."""
    layers = []
    for layer in range(harmful.shape[2]):  # one at a time: in float64 all of them may not fit
        sides = [one[:, :, layer].cpu().double() for one in (harmful, harmless)]
        halves = [[side[half] for side in sides] for half in HALVES]
        scored = [plane_scores(*seen, *unseen) for seen, unseen in (halves, halves[::-1])]
        layers.append([(one + other) / 2 for one, other in zip(*scored, strict=True)])
    auc, d = (torch.stack(one, dim=1) for one in zip(*layers, strict=True))
    return auc, d


def along(
    directions: Float[Tensor, "positions layers d_model"],
    harmful: Float[Tensor, "a positions layers d_model"],
    harmless: Float[Tensor, "b positions layers d_model"],
) -> tuple[Float[Tensor, "positions layers"], Float[Tensor, "positions layers"]]:
    """Return AUC and Cohen's d of all prompts along given directions."""
    layers = [
        scores_along(
            directions[:, layer].cpu().double(), *(one[:, :, layer].cpu().double() for one in (harmful, harmless))
        )
        for layer in range(harmful.shape[2])
    ]
    auc, d = (torch.stack(one, dim=1) for one in zip(*layers, strict=True))
    return auc, d


def cosine_of(
    first: Float[Tensor, "positions layers d_model"], second: Float[Tensor, "positions layers d_model"]
) -> Float[Tensor, "positions layers"]:
    """Return the cosine of two directions at every place; NaN where one of them has no length."""
    first, second = first.cpu().double(), second.cpu().double()
    cosine: Tensor = (first * second).sum(-1) / (first.norm(dim=-1) * second.norm(dim=-1))
    return cosine


def check_sides(
    harmful: Float[Tensor, "a positions layers d_model"],
    harmless: Float[Tensor, "b positions other_layers other_width"],
) -> None:
    """Raise InputError for sides of different models, and for ones too small to be halved."""
    if harmful.shape[2:] != harmless.shape[2:]:
        raise InputError(
            f"the two sides have {tuple(harmful.shape[2:])} and {tuple(harmless.shape[2:])} layers and width; capture both "
            "with one model"
        )
    if min(len(harmful), len(harmless)) < LEAST:
        raise InputError(f"{len(harmful)} and {len(harmless)} prompts cannot be halved; give at least {LEAST} a side")
