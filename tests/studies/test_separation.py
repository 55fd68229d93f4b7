"""How well one number parts two sides, on what is known."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from abliterate.studies.separation import auroc, auroc_interval, best_threshold

SIDE = st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=9)


def test_the_area_under_the_curve() -> None:
    assert auroc([2.0, 3.0], [0.0, 1.0]) == 1
    assert auroc([1.0, 1.0], [1.0, 1.0]) == 0.5
    assert math.isnan(auroc([], [1.0]))


@given(SIDE, SIDE)
def test_turning_the_sides_round_turns_the_area_round(positive: list[float], negative: list[float]) -> None:
    assert math.isclose(auroc(positive, negative), 1 - auroc(negative, positive))


def test_the_interval_lies_around_the_area() -> None:
    low, high = auroc_interval([2.0, 3.0, 4.0, 0.5], [0.0, 1.0, 2.5, 0.0])
    assert 0 <= low < auroc([2.0, 3.0, 4.0, 0.5], [0.0, 1.0, 2.5, 0.0]) < high <= 1


def test_the_threshold_makes_the_fewest_mistakes_and_is_the_lowest_such() -> None:
    assert best_threshold([2.0, 3.0, 4.0], [0.0, 1.0, 2.5]) == 2
    assert best_threshold([2.0, 3.0], [0.0, 1.0]) == 2
