"""Tests on pairs, held against scipy's, and against what they must say of nothing."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from abliterate.evaluation.paired import Changed, paired_changes, paired_difference


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test_on_the_changed(gained: int, lost: int) -> None:
    p = Changed(gained, lost).p
    assert p == pytest.approx(stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0)
    assert p == Changed(lost, gained).p


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_changed_counts_both_ways(pairs: list[tuple[bool, bool]]) -> None:
    before, after = [one for one, _ in pairs], [other for _, other in pairs]
    one, back = paired_changes(before, after), paired_changes(after, before)
    assert (one.gained, one.lost) == (back.lost, back.gained)
    assert sum(after) - sum(before) == one.gained - one.lost


@pytest.mark.parametrize("count", [3, 8, 12])
def test_few_differences_are_tested_exactly(count: int) -> None:
    values = numpy.random.default_rng(count).normal(0.4, 1, count)
    expected = stats.permutation_test(
        (values,), lambda one, axis: one.mean(axis), permutation_type="samples", n_resamples=math.inf, vectorized=True
    ).pvalue
    assert paired_difference([0.0] * count, list(values)).p == pytest.approx(expected)


def test_many_differences_are_tested_by_random_flips() -> None:
    values = numpy.random.default_rng(0).normal(0.25, 1, 100)
    expected = stats.permutation_test(
        (values,),
        lambda one, axis: one.mean(axis),
        permutation_type="samples",
        n_resamples=10_000,
        vectorized=True,
        rng=1,
    ).pvalue
    assert paired_difference([0.0] * 100, list(values)).p == pytest.approx(expected, abs=0.01)


def test_under_no_effect_small_p_values_are_as_rare_as_they_say() -> None:
    draws = numpy.random.default_rng(1).normal(0, 1, (200, 30))
    small = sum(paired_difference([0.0] * 30, list(row)).p < 0.1 for row in draws)
    assert 8 <= small <= 35  # 20 are expected


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_no_difference_is_none(values: list[float]) -> None:
    one = paired_difference(values, values)
    assert one.p == 1
    assert one.mean.value == 0


def test_lists_must_be_of_the_same_prompts() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0])
