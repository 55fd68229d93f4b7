"""Starts, kinds of refusal, verdicts of curves: on what was planted."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.studies.positions.method import (
    FLIPPED,
    NONE,
    ONE_SIDED,
    ROBUST,
    UNMEASURED,
    Curve,
    carries_over,
    class_of,
    label_at,
    modal,
    noise_of,
    spearman,
    start_of,
    too_few,
)

ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def curve(effect: object, spread: float = 0.1) -> Curve:
    noise = numpy.random.default_rng(0).normal(0, spread, 20)
    return Curve({alpha: tuple((effect(alpha) + abs(alpha) * noise).tolist()) for alpha in ALPHAS})  # type: ignore[operator]


@given(st.lists(st.booleans(), max_size=5))
def test_a_reply_starts_at_the_only_location_that_it_refuses_from(labels: list[bool]) -> None:
    start = start_of(labels)
    refusing = [location for location in (1, 2, 3) if label_at(labels, location)]
    assert refusing == ([] if start is None else [start])
    if start is not None:
        assert all(label_at(labels, later) is None for later in range(start + 1, 4))


def test_what_has_ended_is_neither_refused_nor_answered() -> None:
    assert label_at([False], 2) is None
    assert label_at([False, False], 2) is False
    assert start_of([]) is None


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("I'm sorry, but I can't assist with that.", "cannot"),
        ("I am not able to do that.", "am not"),
        ("It is illegal to do so.", "illegal"),
        ("It's important to ask first.", "important"),
        ("Let us talk about something else.", "other"),
    ],
)
def test_kinds_of_refusal(sentence: str, kind: str) -> None:
    assert class_of(sentence) == kind


def test_both_sides_need_enough_by_their_weights() -> None:
    assert too_few([0.5] * 32) is None
    assert too_few([1.0] * 60 + [0.0] * 3) == "60 refusals, 3 answers: not enough"
    assert too_few([1.0] * 3 + [0.0] * 3, 3) is None


def test_a_planted_curve_is_robust_and_turned_round_flipped() -> None:
    assert curve(lambda alpha: 3 * alpha).verdict() == ROBUST
    assert curve(lambda alpha: -3 * alpha).verdict() == FLIPPED
    assert curve(lambda alpha: max(0.0, 3 * alpha)).verdict() == ONE_SIDED
    assert curve(lambda alpha: 3 * abs(alpha)).verdict(noise=0.1) == NONE


def test_what_random_vectors_do_is_no_effect() -> None:
    random = [curve(lambda alpha, size=size: size * alpha) for size in (0.2, -0.3, 0.25)]  # type: ignore[misc]
    assert noise_of(random) == pytest.approx(0.75, abs=0.1)
    assert curve(lambda alpha: 0.5 * alpha).verdict() == ROBUST
    assert curve(lambda alpha: 0.5 * alpha).verdict(noise=noise_of(random)) == NONE
    assert curve(lambda alpha: 3 * alpha).verdict(noise=noise_of(random)) == ROBUST
    assert noise_of([]) == 0


def test_only_alphas_at_which_replies_hold_together_count() -> None:
    turned = Curve({**curve(lambda alpha: 3 * alpha).changes, 2.0: (-9.0,) * 20, -2.0: (9.0,) * 20})
    assert turned.verdict(coherent=1.0) == ROBUST
    assert turned.verdict(coherent=2.0) == NONE
    assert turned.verdict(coherent=0.0) == NONE


def test_a_robust_vector_is_so_on_most_other_forms() -> None:
    assert carries_over(ROBUST, [ROBUST] * 4 + [NONE])
    assert not carries_over(ROBUST, [ROBUST] * 3 + [NONE] * 2)
    assert not carries_over(NONE, [ROBUST] * 5)
    assert carries_over(ROBUST, [ROBUST] + [UNMEASURED] * 5)


def test_what_moves_nothing_at_all_is_not_measured() -> None:
    assert Curve({-1.0: (0.0, 0.0), 1.0: (0.0, 0.0)}).verdict() == UNMEASURED


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=9, unique=True))
def test_ranks_alone_decide_spearman(values: list[float]) -> None:
    places = [float(sorted(values).index(one)) for one in values]
    assert spearman(values, places) == pytest.approx(1)
    assert spearman(values, [-one for one in values]) == pytest.approx(-1)
    assert math.isnan(spearman(values, [1.0] * len(values)))


def test_the_most_frequent_name_is_the_first_of_equals() -> None:
    assert modal(["a", "b", "b"]) == "b"
    assert modal(["a", "b", "b", "a"]) == "a"


@pytest.mark.parametrize(("alphas", "slope"), [((0.5, 1.0, 2.0), 1.0), ((2.0, 3.0), 2.0)])
def test_the_slope_is_that_of_the_largest_alpha_up_to_one_else_of_the_least(
    alphas: tuple[float, ...], slope: float
) -> None:
    assert Curve({sign * alpha: (sign * alpha,) for alpha in alphas for sign in (1, -1)}).slope == slope
