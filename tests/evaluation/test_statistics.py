from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.evaluation.statistics import Mean, Rate


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_holds_the_estimate_and_stays_in_range(case: tuple[int, int]) -> None:
    low, high = Rate(*case).interval
    assert 0 <= low <= Rate(*case).value <= high <= 1
    assert high > low


def test_wilson_solves_its_own_equation() -> None:
    # The bounds are the p with |p - phat| = z sqrt(p(1-p)/n): the definition, not a table.
    rate = Rate(7, 40)
    for bound in rate.interval:
        assert abs(bound - rate.value) == pytest.approx(1.959963984540054 * math.sqrt(bound * (1 - bound) / 40))


def test_nothing_measured_is_no_certainty() -> None:
    assert math.isnan(Rate(0, 0).value)
    assert Rate(0, 0).interval == (0.0, 1.0)
    assert math.isnan(Mean(()).value)


@given(st.lists(st.floats(0, 10), min_size=2, max_size=60))
def test_bootstrap_interval_holds_the_mean(values: list[float]) -> None:
    mean = Mean(tuple(values))
    low, high = mean.interval
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert mean.interval == (low, high)  # the seed is fixed


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    import numpy

    numbers = numpy.random.default_rng(3)
    hits = 0
    for _ in range(100):
        low, high = Mean(tuple(numbers.exponential(1.0, 60))).interval
        hits += low <= 1.0 <= high
    assert 85 <= hits <= 100
