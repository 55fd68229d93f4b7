"""Candidates for the edit, and the rule that chooses among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from abliterate.directions.directions import Directions
from abliterate.errors import InputError

MAX_KL = 0.1
DEEPEST = 0.8


@dataclass(frozen=True)
class Candidate:
    """One direction and how it does; a score that was not needed for the choice is None.

    `estimate` is what attribution makes of its bypass, where a search begins with the best.
    """

    layer: int
    position: int
    bypass: float | None = None
    induce: float | None = None
    kl: float | None = None
    estimate: float | None = None

    @property
    def order(self) -> float:
        """Return what candidates are ranked by for an ablation: their bypass, the least first."""
        return math.inf if self.bypass is None else self.bypass

    def allowed(self, floor: float | None = 0.0) -> bool:
        """Whether the rule admits it, its scores being known; without a floor, induce does not matter."""
        return self.induces(floor) and self.kl is not None and self.kl < MAX_KL

    def induces(self, floor: float | None) -> bool:
        """Whether adding the difference makes harmless prompts refused as far as the rule asks."""
        return floor is None or (self.induce is not None and self.induce > floor)


@dataclass(frozen=True)
class Selection:
    """The choice, and every candidate that was looked at, best bypass first.

    `harmful` and `harmless` are the unedited model's mean refusal scores, `floor` what induce had to exceed (None
    where the model hardly refuses, and nothing was asked). `first` is how many prompts a side, at most, all of this is of: None
    for the whole of both.
    """

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    harmful: float
    harmless: float
    floor: float | None
    first: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return the choice as the manifest holds it."""
        scores = {"bypass": self.chosen.bypass, "induce": self.chosen.induce, "kl": self.chosen.kl}
        found: dict[str, object] = {
            **scores,
            "floor": self.floor,
            "unedited": {"harmful": self.harmful, "harmless": self.harmless},
        }
        return found if self.first is None else {**found, "first": self.first}


def induce_floor(harmful: float, harmless: float) -> float:
    """Return what induce must exceed: 0, or half-way for a model whose harmful prompts score below 0 themselves."""
    return 0.0 if harmful > 0 else (harmful + harmless) / 2


def choose(candidates: Sequence[Candidate], depth: int, floor: float | None = 0.0) -> Candidate:
    """Return the candidate with the least bypass among those that the rule admits.

    Raises InputError when there is none. Ties go to the earlier layer, then the later position.
    """
    allowed = [one for one in candidates if one.allowed(floor) and one.layer < int(DEEPEST * depth)]
    if not allowed:
        raise InputError(
            f"no layer removes refusal within KL < {MAX_KL} and induces it when added (of {len(candidates)} candidates); "
            "choose one with --layer N, or give more or other prompts"
        )
    return min(allowed, key=lambda one: (one.order, one.layer, -one.position))


def candidate_places(directions: Directions, layers: Sequence[int]) -> list[tuple[int, int]]:
    """Return layer and position of every candidate. Raises InputError when the prompts differ at none."""
    places = [
        (layer, position) for position in directions.positions for layer in layers if directions.exists(layer, position)
    ]
    if not places:
        raise InputError("harmful and harmless prompts give the same activations everywhere; give other prompts")
    return places
