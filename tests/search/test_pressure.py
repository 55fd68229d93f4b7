"""How hard the next stage presses, and the limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from abliterate.search import pressure
from abliterate.search.choice import USUAL_MAX_KL
from abliterate.search.front import Point
from abliterate.search.pressure import REFUSAL_WEIGHTS, limit_of, next_turn, title
from abliterate.search.variables import Variables

POINT = Point(Variables({}, torch.zeros(0)), None, 24, 0, 29, 0.0)


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """The room's short stages are not what is looked at here."""
    monkeypatch.setattr(pressure, "REFUSAL_WEIGHTS", REFUSAL_WEIGHTS)


def test_a_stage_for_each_weight_from_much_to_little_and_then_none() -> None:
    points = [POINT, replace(POINT, refusals=6, kl=0.1)]
    for done, weight in enumerate(REFUSAL_WEIGHTS):
        turn = next_turn(points)
        assert turn is not None
        assert (turn.number, turn.weight, title(turn)) == (done, weight, f"stage {done + 1} of {len(REFUSAL_WEIGHTS)}")
        points.append(replace(POINT, refusal_weight=weight))
    assert next_turn(points) is None
    assert list(REFUSAL_WEIGHTS) == sorted(REFUSAL_WEIGHTS, reverse=True)


@pytest.mark.parametrize(
    ("asked", "limit"),
    [
        ((None, None, "refusals"), USUAL_MAX_KL),
        ((None, 0.005, "refusals"), 0.005),
        ((0.1, 0.005, "refusals"), None),
        ((None, None, "knee"), None),
    ],
)
def test_the_limit_is_that_within_which_fewest_refusals_are_asked_for(asked: tuple, limit: float | None) -> None:  # type: ignore[type-arg]
    assert limit_of(*asked) == limit
