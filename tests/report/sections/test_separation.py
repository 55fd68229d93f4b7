"""Separation by layer and position, where it was observed."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections.separation import numbers, words


def test_both_measures_with_the_choice(whole: Gathered) -> None:
    assert words(whole) == {}
    shown = numbers(whole)
    assert set(shown["separation"]) >= {"auc", "d", "layers", "positions"}
    assert shown["chosen"] == {"layer": 3, "position": -1}


def test_nothing_where_nothing_was_observed(bare: Gathered) -> None:
    assert words(bare) is None
    assert not numbers(bare)["separation"]
