"""How hard each stage presses on refusals: through the usual weights; then harder, where no edit beyond the limit of divergence leaves fewer.

Where one does, no more stages are needed: `closing` looks between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from abliterate.search.choice import USUAL_MAX_KL, Pick
from abliterate.search.closing import AIM, gaps
from abliterate.search.front import Front, Point

REFUSAL_WEIGHTS = (0.5, 0.2, 0.08, 0.03, 0.01)
"""Weights of the refusals, a stage each."""

HARDER = 2
"""Stages that press harder, at most: none where nothing is refused within the limit, or an edit beyond it leaves fewer refusals."""

STRIDE = 3.0
"""By how much they do."""


@dataclass(frozen=True)
class Turn:
    """The next stage: its place among all, its weight of refusals, and the point that it begins with, None for where the last one ended."""

    number: int
    weight: float
    begins: Point | None = None
    title: str = ""


def limit_of(target_refusals: float | None, max_kl: float | None, pick: Pick) -> float | None:
    """Return the divergence within which fewest refusals are asked for; None where something else chooses."""
    if pick == "knee" or target_refusals is not None:
        return None
    return USUAL_MAX_KL if max_kl is None else max_kl


def next_turn(points: Sequence[Point], limit: float | None, max_lost: float) -> Turn | None:
    """Return the stage that follows on the points so far, None behind the last and once there are edits between."""
    through = stages_through(points, limit, max_lost)
    return following(points, limit, max_lost) if through == len(points) else None


def stages_through(points: Sequence[Point], limit: float | None, max_lost: float) -> int:
    """Return how many of the points are those of the stages, the original's and the start's; others lie between them."""
    counts = range(min(len(REFUSAL_WEIGHTS) + 2, len(points)), len(points))
    return next((count for count in counts if following(points[:count], limit, max_lost) is None), len(points))


def following(points: Sequence[Point], limit: float | None, max_lost: float) -> Turn | None:
    """Return the stage that follows on points of stages alone: the original's, the start's, and one of each."""
    done, usual = len(points) - 2, len(REFUSAL_WEIGHTS)
    if done < usual:
        return Turn(done, REFUSAL_WEIGHTS[done], title=f"stage {done + 1} of {usual}")
    if limit is None or done >= usual + HARDER:
        return None
    front = Front(tuple(points[1:]), points[0], max_lost)
    within = [point for point in front.keeping() if point.kl <= limit]
    found = [point for point in within if point.refusal_weight]
    if not found or not all(point.refusals for point in within) or gaps(front, limit):
        return None
    begins = max(found, key=lambda point: point.kl)
    if begins.kl >= AIM[0] * limit:
        return None
    assert begins.refusal_weight
    title = f"pressing harder within KL {limit:g}, stage {done - usual + 1} of {HARDER}"
    return Turn(done, begins.refusal_weight * STRIDE, begins, title)
