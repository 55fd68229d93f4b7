"""The front of refusals against damage."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from abliterate.errors import InputError
from abliterate.search.front import Front, Point, knee
from abliterate.search.variables import Variables


def point(refusals: int, kl: float, incoherent: int = 0) -> Point:
    return Point(Variables({}, torch.zeros(0)), 1.0, refusals, incoherent, 100, kl)


POINTS = [point(0, 0.5), point(2, 0.1), point(5, 0.05), point(30, 0.04), point(4, 0.3), point(1, 0.001, 50)]
FRONT = Front(tuple(POINTS), point(60, 0.0, 1))


def test_the_front_holds_what_nothing_beats_and_says_something() -> None:
    assert FRONT.best() == POINTS[:4]
    assert knee(FRONT.best()) is POINTS[2]


@pytest.mark.parametrize(
    ("target", "limit", "chosen"),
    [
        (0.03, None, 1),
        (0.05, None, 2),
        (0.0, None, 0),
        (None, 0.1, 1),
        (None, 0.06, 2),
        (0.5, 0.06, 3),
    ],
)
def test_a_target_or_a_limit_chooses(target: float | None, limit: float | None, chosen: int) -> None:
    assert FRONT.choose(target, limit) is POINTS[chosen]


def test_without_either_it_is_fewest_refusals_within_the_usual_limit_and_the_knee_only_when_asked() -> None:
    """Three lie within .02: of the two with fewest refusals the one with less KL; and of none within, the least KL."""
    near = [point(0, 0.0201), point(3, 0.02), point(3, 0.019), point(4, 0.001)]
    assert Front(tuple(near), point(60, 0.0, 1)).choose() is near[2]
    assert FRONT.choose() is POINTS[3]
    assert FRONT.choose(pick="knee") is POINTS[2]


@pytest.mark.parametrize(
    ("target", "limit", "message"),
    [
        (None, 0.01, "--max-kl 0.01: the least found is 0.04"),
        (0.01, 0.1, "--target-refusals 0.01: the least found is 0.02"),
    ],
)
def test_what_no_point_reaches_is_said(target: float | None, limit: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FRONT.choose(target, limit)


def test_a_front_of_babble_is_refused() -> None:
    with pytest.raises(InputError, match="empty or go round in circles"):
        Front((point(0, 0.1, 60),), point(60, 0.0, 1)).choose(None, None)


def keeping(refusals: int, kl: float, kept: int) -> Point:
    return Point(Variables({}, torch.zeros(0)), 1.0, refusals, 0, 100, kl, kept, 64)


def test_only_points_that_leave_the_refusals_that_should_stay_are_chosen() -> None:
    """Two of a hundred may turn: of 50 that is one."""
    points = keeping(0, 0.01, 48), keeping(5, 0.01, 49), keeping(9, 0.005, 50)
    front = Front(points, keeping(40, 0.0, 50))
    assert front.best() == [points[1], points[2]]
    assert front.choose() is points[1]
    assert points[1].to_json()["kept"] == 49
    assert "kept" not in point(1, 0.1).to_json()


def test_how_many_of_them_may_be_lost_can_be_said() -> None:
    """All points are offered that nothing beats in all three figures; which of them are allowed, the share decides."""
    points = keeping(0, 0.01, 20), keeping(5, 0.01, 23), keeping(9, 0.005, 24), keeping(9, 0.006, 24)
    front = Front(points, keeping(40, 0.0, 24))
    assert front.offered() == [*points[:3]]
    assert front.choose() is points[2]
    assert replace(front, max_lost=0.05).choose() is points[1]
    assert replace(front, max_lost=1 / 6).choose() is points[0]
    assert replace(front, max_lost=0.16).choose() is points[1]


def test_where_every_point_loses_them_that_is_said() -> None:
    front = Front((keeping(0, 0.01, 20), keeping(3, 0.01, 30)), keeping(40, 0.0, 40))
    with pytest.raises(
        InputError,
        match=r"of 40 on the select split at most 30 are left; give more prompts, --max-lost 0.25, or --edit-rank 2",
    ):
        front.choose()
