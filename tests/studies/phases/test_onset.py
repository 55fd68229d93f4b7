"""Onset curves: textbook data, laws."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.studies.phases.onset import Onset, curve_of, log_rank, log_rank_p, share_entered

TREATED = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"
CONTROL = "1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23"
"""Weeks of remission under 6-MP and placebo: Freireich et al. 1963, the textbooks' example; + is censored."""

ONSETS = st.lists(st.builds(Onset, st.integers(0, 20), st.booleans()), min_size=1, max_size=15)


def read(text: str) -> list[Onset]:
    return [Onset(int(one.rstrip("+")), not one.endswith("+")) for one in text.split()]


def test_the_textbook_s_curve() -> None:
    """Shares and standard errors as Collett, and Kalbfleisch & Prentice, print them."""
    points = curve_of(read(TREATED))
    assert [(one.token, round(one.share, 3)) for one in points] == [
        (6, 0.857), (7, 0.807), (10, 0.753), (13, 0.690), (16, 0.627), (22, 0.538), (23, 0.448),
    ]  # fmt: skip
    assert [(one.at_risk, one.entered) for one in points] == [
        (21, 3),
        (17, 1),
        (15, 1),
        (12, 1),
        (11, 1),
        (7, 1),
        (6, 1),
    ]
    assert (points[-1].low, points[-1].high) == pytest.approx((0.188, 0.680), abs=0.001)  # R's conf.type = "log-log"


def test_the_textbook_s_test() -> None:
    assert log_rank(read(TREATED), read(CONTROL)) == pytest.approx(16.79, abs=0.01)
    assert log_rank_p(read(TREATED), read(CONTROL)) < 0.001


def test_without_censoring_the_curve_is_the_share() -> None:
    onsets = [Onset(token, True) for token in (1, 2, 2, 5)]
    assert [share_entered(onsets, token) for token in range(6)] == [0, 0.25, 0.75, 0.75, 0.75, 1]


def test_who_never_enters_makes_no_curve() -> None:
    assert curve_of([Onset(128, False)] * 3) == ()
    assert share_entered([Onset(128, False)] * 3, 200) == 0


@given(ONSETS)
def test_the_curve_falls_within_its_interval(onsets: list[Onset]) -> None:
    points = curve_of(onsets)
    shares = [1.0, *(one.share for one in points)]
    assert all(after < before for before, after in pairwise(shares))
    for one in points:
        assert -1e-12 <= one.low <= one.share + 1e-12
        assert one.share <= one.high + 1e-12 <= 1 + 1e-9


@given(ONSETS, ONSETS)
def test_the_test_is_the_same_from_both_sides(first: list[Onset], second: list[Onset]) -> None:
    assert math.isclose(log_rank(first, second), log_rank(second, first), rel_tol=1e-9, abs_tol=1e-9)


@given(ONSETS)
def test_a_set_does_not_differ_from_itself(onsets: list[Onset]) -> None:
    assert log_rank(onsets, onsets) == pytest.approx(0, abs=1e-12)


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="both sets"):
        log_rank_p([], [Onset(1, True)])
