"""How hard the next stage presses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from abliterate.search import pressure
from abliterate.search.choice import USUAL_MAX_KL
from abliterate.search.front import Point
from abliterate.search.pressure import AIM, CLOSING, REFUSAL_WEIGHTS, STRIDE, Turn, limit_of, next_turn
from abliterate.search.variables import Variables

ORIGINAL = Point(Variables({}, torch.zeros(0)), None, 24, 0, 29, 0.0)
START = replace(ORIGINAL, refusals=6, kl=0.1)


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """The room's short stages are not what is looked at here."""
    monkeypatch.setattr(pressure, "REFUSAL_WEIGHTS", REFUSAL_WEIGHTS)
    monkeypatch.setattr(pressure, "CLOSING", CLOSING)


def stage(weight: float, refusals: int, kl: float) -> Point:
    return Point(Variables({}, torch.zeros(0)), weight, refusals, 0, 29, kl)


def turn(*stages: Point, limit: float | None = 0.02) -> Turn | None:
    return next_turn([ORIGINAL, START, *stages], limit, 0.02)


USUAL = (
    stage(0.5, 1, 0.131),
    stage(0.2, 7, 0.040),
    stage(0.08, 4, 0.036),
    stage(0.03, 14, 0.007),
    stage(0.01, 8, 0.0082),
)


def test_the_usual_weights_come_first_each_from_where_the_last_ended() -> None:
    for done, weight in enumerate(REFUSAL_WEIGHTS):
        following = turn(*USUAL[:done])
        assert following is not None
        assert (following.number, following.weight, following.begins) == (done, weight, None)


def test_then_a_weight_between_that_within_the_limit_and_that_beyond() -> None:
    """The line between both has AIM times the limit where the stage begins."""
    following = turn(*USUAL)
    assert following is not None
    assert following.begins is USUAL[4]
    assert 0.01 < following.weight < 0.08
    share = torch.tensor(following.weight / 0.01).log() / torch.tensor(8.0).log()
    line = torch.tensor(0.0082).log() + share * (torch.tensor(0.036).log() - torch.tensor(0.0082).log())
    assert float(line.exp()) == pytest.approx(AIM * 0.02, rel=1e-5)
    assert "closing in on KL 0.02, stage 1 of 2" in following.title


def test_a_stage_that_came_nearer_is_gone_on_from_though_another_beats_it() -> None:
    """What came out on Qwen2.5-0.5B: as many refusals at more divergence. The same stage once more would be work done twice."""
    nearer = stage(0.0303, 8, 0.015)
    following = turn(*USUAL, nearer)
    assert following is not None
    assert following.begins is nearer
    assert 0.0303 < following.weight < 0.08
    assert turn(*USUAL, replace(nearer, incoherent=20)) == replace(turn(*USUAL), number=6, title=following.title)


def test_where_all_lie_on_one_side_it_presses_less_or_more() -> None:
    less, more = turn(*USUAL, limit=0.001), turn(*USUAL, limit=0.5)
    assert less is not None
    assert more is not None
    assert (less.weight, less.begins) == (0.03 / STRIDE, USUAL[3])
    assert (more.weight, more.begins) == (0.5 * STRIDE, USUAL[0])


def test_it_ends_when_there_is_nothing_to_gain_or_something_else_chooses() -> None:
    nobody = (*USUAL[:4], stage(0.01, 0, 0.0082))
    assert turn(*nobody) is None
    assert turn(*USUAL, limit=None) is None
    assert turn(*USUAL, *[stage(0.05, 5, 0.03)] * CLOSING) is None
    lost = [replace(point, kept=5, kept_prompts=20) for point in USUAL]  # not one that could be taken
    kept = [replace(ORIGINAL, kept=20, kept_prompts=20), replace(START, kept=20, kept_prompts=20)]
    assert next_turn([*kept, *lost], 0.02, 0.02) is None


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
