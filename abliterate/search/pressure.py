"""How hard each stage presses on refusals, and the limit of divergence within which fewest of them are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from abliterate.search.choice import USUAL_MAX_KL, Pick
from abliterate.search.front import Point

REFUSAL_WEIGHTS = (0.5, 0.2, 0.08, 0.03, 0.01)
"""Weights of the refusals, a stage each."""


@dataclass(frozen=True)
class Turn:
    """The next stage: its place among all, and its weight of refusals."""

    number: int
    weight: float


def limit_of(target_refusals: float | None, max_kl: float | None, pick: Pick) -> float | None:
    """Return the divergence within which fewest refusals are asked for; None where something else chooses."""
    if pick == "knee" or target_refusals is not None:
        return None
    return USUAL_MAX_KL if max_kl is None else max_kl


def next_turn(points: Sequence[Point]) -> Turn | None:
    """Return the stage that follows on the points so far (the original's, the start's, a stage each), None behind the last."""
    done = len(points) - 2
    return Turn(done, REFUSAL_WEIGHTS[done]) if done < len(REFUSAL_WEIGHTS) else None


def title(turn: Turn) -> str:
    """Return what a stage is called while it runs."""
    return f"stage {turn.number + 1} of {len(REFUSAL_WEIGHTS)}"
