"""How hard the next stage presses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from abliterate.search import pressure
from abliterate.search.choice import USUAL_MAX_KL
from abliterate.search.front import Point
from abliterate.search.pressure import HARDER, REFUSAL_WEIGHTS, STRIDE, Turn, limit_of, next_turn, stages_through
from abliterate.search.variables import Variables

ORIGINAL = Point(Variables({}, torch.zeros(0)), None, 24, 0, 29, 0.0)
START = replace(ORIGINAL, refusals=6, kl=0.019)


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """The room's short stages are not what is looked at here."""
    monkeypatch.setattr(pressure, "REFUSAL_WEIGHTS", REFUSAL_WEIGHTS)
    monkeypatch.setattr(pressure, "HARDER", HARDER)


def stage(weight: float, refusals: int, kl: float) -> Point:
    return Point(Variables({}, torch.zeros(0)), weight, refusals, 0, 29, kl)


def turn(*stages: Point, limit: float | None = 0.02, start: Point = START) -> Turn | None:
    return next_turn([ORIGINAL, start, *stages], limit, 0.02)


WITHIN = (
    stage(0.5, 1, 0.0135),
    stage(0.2, 7, 0.013),
    stage(0.08, 4, 0.012),
    stage(0.03, 14, 0.007),
    stage(0.01, 8, 0.008),
)


def test_the_usual_weights_come_first_each_from_where_the_last_ended() -> None:
    for done, weight in enumerate(REFUSAL_WEIGHTS):
        following = turn(*WITHIN[:done])
        assert following is not None
        assert (following.number, following.weight, following.begins) == (done, weight, None)
        assert following.title == f"stage {done + 1} of {len(REFUSAL_WEIGHTS)}"


def test_where_all_lie_within_the_limit_it_presses_harder_from_the_nearest() -> None:
    following = turn(*WITHIN)
    assert following is not None
    assert (following.number, following.weight, following.begins) == (5, 0.5 * STRIDE, WITHIN[0])
    assert following.title == "pressing harder within KL 0.02, stage 1 of 2"
    nearer = stage(1.5, 1, 0.0139)
    again = turn(*WITHIN, nearer)
    assert again is not None
    assert (again.weight, again.begins) == (1.5 * STRIDE, nearer)
    assert turn(*WITHIN, *[nearer] * HARDER) is None


def test_it_ends_when_there_is_nothing_to_gain_or_an_edit_lies_beyond_or_something_else_chooses() -> None:
    assert turn(*WITHIN[:4], stage(0.01, 0, 0.008)) is None
    assert turn(*WITHIN, limit=0.0131) is None  # that of 0.5 lies beyond
    assert turn(*WITHIN, start=replace(START, refusals=0, kl=0.1)) is None
    more = turn(*WITHIN, start=replace(START, refusals=1, kl=0.1))
    assert more is not None, "an edit beyond that leaves as many is no end of a way"
    assert turn(*WITHIN, limit=None) is None
    assert turn(*WITHIN, limit=0.0136, start=replace(START, refusals=24)) is None  # that of 0.5 is near enough
    kept = [replace(ORIGINAL, kept=20, kept_prompts=20), replace(START, kept=20, kept_prompts=20)]
    lost = [replace(point, kept=5, kept_prompts=20) for point in WITHIN]  # not ones that could be taken
    assert next_turn([*kept, *lost], 0.02, 0.02) is None


def test_an_edit_that_could_not_be_taken_does_not_count_as_one_beyond() -> None:
    """With refusals that shall stay: what loses them lies nowhere."""
    points = [replace(one, kept=20, kept_prompts=20) for one in (ORIGINAL, START, *WITHIN[:4])]
    losing = replace(stage(0.01, 0, 0.5), kept=3, kept_prompts=20)
    following = next_turn([*points, losing], 0.02, 0.02)
    assert following is not None
    assert following.begins is points[2]


def test_the_points_of_the_stages_are_told_from_those_between() -> None:
    """A search that was interrupted knows where it was."""
    beyond = stage(1.5, 0, 0.05)
    points = [ORIGINAL, START, *WITHIN, beyond]
    assert stages_through(points, 0.02, 0.02) == len(points)
    assert stages_through([*points, stage(1.0, 1, 0.019), stage(0.9, 1, 0.0195)], 0.02, 0.02) == len(points)
    assert stages_through(points, None, 0.02) == len(points) - 1
    assert stages_through(points[:4], 0.02, 0.02) == 4, "the usual ones are not through yet"


def test_no_stage_follows_once_there_are_edits_between() -> None:
    """Also where what is between lies far from the limit, and leaves as few as what lies beyond: then nothing is left to look between."""
    usual = [ORIGINAL, replace(START, refusals=1, kl=0.1), *WITHIN[1:], replace(WITHIN[0], refusals=9)]
    assert next_turn(usual, 0.02, 0.02) is None, "that of the start leaves fewer"
    assert next_turn([*usual, stage(0.3, 1, 0.0131)], 0.02, 0.02) is None


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
