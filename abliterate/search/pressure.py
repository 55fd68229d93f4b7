"""How hard the next stage presses on refusals: through the usual weights, then closing in on the limit of divergence.

The usual weights leave gaps: of two stages next to each other one may lie far within the limit and leave refusals, the other beyond it.
The last stages begin with the one within, at a weight between the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from abliterate.search.choice import USUAL_MAX_KL, Pick
from abliterate.search.front import Front, Point

REFUSAL_WEIGHTS = (0.5, 0.2, 0.08, 0.03, 0.01)
"""Weights of the refusals, a stage each."""

CLOSING = 2
"""Stages that close in on the limit, at most; none where nothing is refused within it."""

AIM = 0.9
"""What they aim at, as a share of the limit: what they reach is not known before."""

STRIDE = 3.0
"""By how much the weight changes where all stages lie on one side of the limit."""


LEAST_SHARE = 0.25
"""How far a weight lies from both that it is between, at least, as a share of the way: each stage shall learn something."""


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
    """Return the stage that follows on the points so far (the original's, the start's, a stage each), None behind the last."""
    done = len(points) - 2
    if done < len(REFUSAL_WEIGHTS):
        return Turn(done, REFUSAL_WEIGHTS[done], title=f"stage {done + 1} of {len(REFUSAL_WEIGHTS)}")
    closing = done - len(REFUSAL_WEIGHTS)
    between = closed_in(Front(tuple(points[2:]), points[0], max_lost), limit) if limit and closing < CLOSING else None
    if between is None:
        return None
    return Turn(done, *between, title=f"closing in on KL {limit:g}, stage {closing + 1} of {CLOSING}")


def closed_in(front: Front, limit: float) -> tuple[float, Point] | None:
    """Return a weight under which an edit should lie just within the limit, and the point to begin with; None with nothing to gain.

    It begins with the point nearest to the limit from within, so that a stage that came nearer is gone on from. Between that and the
    nearest beyond, the logarithm of the divergence is taken as a line over that of the weight.
    """
    points = [(point.refusal_weight, point) for point in front.keeping() if point.refusal_weight]
    within = [one for one in points if one[1].kl <= limit]
    beyond = [one for one in points if one[1].kl > limit]
    if not points or not all(point.refusals for _, point in within):
        return None
    high, far = min(beyond, key=lambda one: one[1].kl, default=(0.0, front.original))
    if not within:
        return high / STRIDE, far
    weight, point = max(within, key=lambda one: one[1].kl)
    if high <= weight or point.kl <= 0:  # nothing lies beyond, or nothing that presses harder
        return weight * STRIDE, point
    share = math.log(AIM * limit / point.kl) / math.log(far.kl / point.kl)
    return weight * (high / weight) ** min(max(share, LEAST_SHARE), 1 - LEAST_SHARE), point
