"""The edits that a search found, and which of them to take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from abliterate.errors import InputError
from abliterate.search.choice import USUAL_MAX_KL, USUAL_MAX_LOST, Pick
from abliterate.search.variables import Variables

SLACK = 0.02
"""Incoherent replies that an edit may add, as a share: one reply of fifty may be unlucky."""


@runtime_checkable
class FrontRank(Protocol):
    """An edit with the two figures by which fronts are drawn."""

    @property
    def refusals(self) -> int:
        """How many replies are refusals."""

    @property
    def kl(self) -> float:
        """KL in nats, at the first reply token."""


@dataclass(frozen=True, eq=False)
class Point:
    """An edit, and how it does on the select split: counts over `prompts` harmful replies, KL at the first token.

    `refusal_weight` is the weight of refusals against divergence under which it was found, None for the automatic choice; an edit
    between two has one between theirs (`closing`).
    `kept` refusals of `kept_prompts` are left of those that shall stay.
    """

    edit: Variables
    refusal_weight: float | None
    refusals: int
    incoherent: int
    prompts: int
    kl: float
    kept: int = 0
    kept_prompts: int = 0

    @property
    def rate(self) -> float:
        """Return the share of harmful prompts that are refused."""
        return self.refusals / self.prompts

    def to_json(self) -> dict[str, Any]:
        """Return the figures and the strengths as the manifest holds them."""
        figures = {"pressure": self.refusal_weight, "refusals": self.refusals, "prompts": self.prompts, "kl": self.kl}
        strengths = self.edit.recipe().to_json()["strengths"]
        return {**figures, **self.kept_to_json(), "incoherent": self.incoherent, "strengths": strengths}

    def kept_to_json(self) -> dict[str, int]:
        """Return how many refusals are left of those that shall stay; nothing where none were named."""
        return {"kept": self.kept, "kept_prompts": self.kept_prompts} if self.kept_prompts else {}


@dataclass(frozen=True)
class Front:
    """All points of a search in the order they were found; `original` are the unedited model's refusals there.

    Of the refusals that shall stay, a point may lose `max_lost`, a share of those that the original has.
    """

    points: tuple[Point, ...]
    original: Point
    max_lost: float = USUAL_MAX_LOST

    def coherent(self) -> list[Point]:
        """Return the points whose replies still say something."""
        allowed = self.original.incoherent + SLACK * self.original.prompts
        return [point for point in self.points if point.incoherent <= allowed]

    def keeping(self) -> list[Point]:
        """Return those of them that leave the refusals that shall stay."""
        least = least_kept(self.original.kept, self.max_lost)
        return [point for point in self.coherent() if point.kept >= least]

    def offered(self) -> list[Point]:
        """Return the coherent points that no other beats in refusals, KL and refusals left that shall stay: what a limit may choose."""
        points = self.coherent()
        kept = [point for point in points if not any(beats_keeping(other, point) for other in points)]
        return sorted(kept, key=lambda point: (point.refusals, point.kl))

    def best(self) -> list[Point]:
        """Return the points that are left and that no other beats in both refusals and KL, fewest refusals first."""
        points = self.keeping()
        kept = [point for point in points if not any(beats(other, point) for other in points)]
        return sorted(kept, key=lambda point: (point.refusals, point.kl))

    def choose(
        self, target_refusals: float | None = None, max_kl: float | None = None, pick: Pick = "refusals"
    ) -> Point:
        """Return the point with least KL within the target, else the one with fewest refusals within the limit.

        With both, the target decides among the points within the limit. Without either the limit is the usual one, and where
        no point lies within it, the one with the least KL is taken; or it is the knee, as `pick` says. Raises InputError where
        no point is left.
        """
        points = self.best()
        if coherent := [] if points else self.coherent():
            most = max(point.kept for point in coherent)
            raise InputError(
                f"every edit that the search found loses refusals that shall stay: of {self.original.kept} on the select "
                f"split at most {most} are left; give more prompts, --max-lost {lost_beside(self.original.kept, most)}, or "
                f"--edit-rank {len(coherent[0].edit.recipe().names) + 1}"
            )
        if not points:
            raise InputError(
                "every edit that the search found leaves replies that are empty or go round in circles; "
                "give more prompts, or edit without --optimize"
            )
        if pick == "knee":
            return knee(points)
        if target_refusals is None and max_kl is None:
            return next((point for point in points if point.kl <= USUAL_MAX_KL), points[-1])
        within = [point for point in points if max_kl is None or point.kl <= max_kl]
        if not within:
            raise InputError(
                f"no edit keeps KL within --max-kl {max_kl:g}: the least found is {points[-1].kl:.3g}, with "
                f"{points[-1].rate:.0%} refused; raise the limit"
            )
        if target_refusals is None:
            return within[0]
        reached = [point for point in within if point.rate <= target_refusals]
        if not reached:
            raise InputError(
                f"no edit brings refusals down to --target-refusals {target_refusals:g}: the least found is "
                f"{within[0].rate:.3g}, at KL {within[0].kl:.3g}; raise the target"
            )
        return min(reached, key=lambda point: point.kl)


def least_kept(original: int, max_lost: float) -> float:
    """Return how many of the original's refusals must be left where a share of them may be lost."""
    return original * (1 - max_lost) - 1e-9


def lost_beside(original: int, left: int) -> float:
    """Return the share of the original's refusals that is lost where `left` are left, rounded up to hundredths."""
    return math.ceil(100 * (1 - left / original)) / 100


def beats(one: FrontRank, other: FrontRank) -> bool:
    """Whether `one` is as good in both figures and better in one."""
    return (one.refusals, one.kl) != (other.refusals, other.kl) and (
        one.refusals <= other.refusals and one.kl <= other.kl
    )


def beats_keeping(one: Point, other: Point) -> bool:
    """Whether `one` is as good in three figures, with the refusals left that shall stay, and better in one."""
    return one.kept >= other.kept and (
        beats(one, other) or ((one.refusals, one.kl) == (other.refusals, other.kl) and one.kept > other.kept)
    )


def knee(points: Sequence[Point]) -> Point:
    """Return the point of a front that lies furthest below the line between its ends, both figures from 0 to 1.

    Satopaa et al. 2011, "Finding a Kneedle in a Haystack". The front runs from fewest refusals to least KL.
    """
    first, last = points[0], points[-1]
    refusals, kl = max(last.refusals - first.refusals, 1), max(first.kl - last.kl, 1e-12)
    below = [1 - (point.refusals - first.refusals) / refusals - (point.kl - last.kl) / kl for point in points]
    return points[max(range(len(points)), key=lambda place: below[place])]
