"""Closing in on a limit of divergence: between which edits, and how far."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from abliterate.search.closing import AIM, HALVINGS, Gap, gaps, nearest
from abliterate.search.front import Front, Point
from abliterate.search.variables import Variables


def edit(strength: float, seed: int) -> Variables:
    direction = torch.nn.functional.normalize(torch.randn(6, generator=torch.Generator().manual_seed(seed)), dim=0)
    return Variables({"attn": torch.full((3,), strength), "mlp": torch.full((3,), strength)}, direction)


def point(weight: float | None, refusals: int, kl: float, strength: float = 1.0, seed: int = 0) -> Point:
    return Point(edit(strength, seed), weight, refusals, 0, 29, kl)


ORIGINAL = Point(Variables({}, torch.zeros(0)), None, 24, 0, 29, 0.0)
START, FAR, NEAR, LEFT, LEAST = (
    point(None, 0, 0.075),
    point(0.5, 0, 0.031, 1.2, 1),
    point(0.08, 3, 0.0076, 0.6, 2),
    point(0.03, 5, 0.0075),
    point(0.01, 13, 0.002),
)


def around(*points: Point, limit: float = 0.02, original: Point = ORIGINAL) -> list[Gap]:
    return gaps(Front(points, original), limit)


def test_from_the_best_within_to_each_beyond_that_leaves_fewer_the_nearest_first() -> None:
    more = point(0.2, 3, 0.04)
    assert around(START, FAR, more, NEAR, LEFT, LEAST) == [Gap(NEAR, FAR), Gap(NEAR, START)]


def test_where_none_is_within_it_begins_with_no_edit_and_where_none_is_beyond_there_is_no_way() -> None:
    assert around(FAR) == [Gap(None, FAR)]
    assert around(NEAR, LEFT) == []
    assert around(replace(FAR, refusals=24)) == [], "as many refusals as the original: nothing to gain"
    assert around(FAR, replace(NEAR, kl=0.0145)) == [], "near enough"


def test_edits_that_lose_what_shall_stay_are_no_ends() -> None:
    kept = replace(ORIGINAL, kept=20, kept_prompts=20)
    losing = replace(NEAR, kept=10, kept_prompts=20)
    keeping = [replace(one, kept=20, kept_prompts=20) for one in (START, FAR)]
    assert around(*keeping, losing, original=kept) == [Gap(None, keeping[1]), Gap(None, keeping[0])]


@given(st.floats(0, 1))
def test_the_way_goes_from_one_edit_to_the_other(share: float) -> None:
    found = Gap(NEAR, FAR).edit(share)
    for site, one in found.strengths.items():
        torch.testing.assert_close(one, torch.lerp(NEAR.edit.strengths[site], FAR.edit.strengths[site], share))
    assert float(found.direction.norm()) == pytest.approx(1, abs=1e-5)
    scaled = Gap(None, FAR).edit(share)
    torch.testing.assert_close(scaled.strengths["mlp"], FAR.edit.strengths["mlp"] * share)
    torch.testing.assert_close(scaled.direction, FAR.edit.direction)


def test_the_ends_are_the_edits_themselves_and_are_not_changed() -> None:
    before = [one.clone() for end in (NEAR, FAR) for one in end.edit.tensors()]
    for share, end in ((0.0, NEAR), (1.0, FAR)):
        for one, other in zip(Gap(NEAR, FAR).edit(share).tensors(), end.edit.tensors(), strict=True):
            torch.testing.assert_close(one, other)
    after = [one for end in (NEAR, FAR) for one in end.edit.tensors()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_pressure_of_an_edit_between_lies_between_theirs() -> None:
    assert Gap(NEAR, FAR).pressure(0.5) == pytest.approx(0.2)
    assert Gap(NEAR, START).pressure(0.5) == pytest.approx(0.08)
    assert Gap(None, FAR).pressure(0.5) == pytest.approx(0.5)
    assert Gap(None, START).pressure(0.5) is None


@given(st.floats(0.001, 0.0149), st.floats(0.0201, 1.0), st.floats(0.2, 4.0))
def test_the_place_that_is_found_is_within_the_limit_and_near_to_it(low: float, high: float, bend: float) -> None:
    """Whatever the divergence does between: here it grows as a power."""
    asked: list[float] = []

    def divergence(one: Variables) -> float:
        share = (float(one.strengths["attn"][0]) - 0.6) / 0.6
        asked.append(low + (high - low) * max(share, 0.0) ** bend)
        return asked[-1]

    share = nearest(Gap(NEAR, FAR), 0.02, divergence)
    assert len(asked) <= HALVINGS
    assert low + (high - low) * share**bend <= AIM[1] * 0.02 + 1e-4
    if len(asked) < HALVINGS:
        assert asked[-1] >= AIM[0] * 0.02
    assert share < 1


def test_where_every_place_is_beyond_it_is_the_one_within() -> None:
    assert nearest(Gap(NEAR, FAR), 0.02, lambda _: 1.0) == 0
