"""The candidates, and the strengths that were tried of an addition."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections.selection import scored, trials, words


def test_scores_that_some_candidate_has(whole: Gathered) -> None:
    assert whole.observations is not None
    assert scored(whole.observations) == ["bypass", "induce", "kl"]
    assert scored({"candidates": [{"bypass": None, "induce": 1.0, "kl": None}]}) == ["induce"]


def test_trials_are_rows(whole: Gathered) -> None:
    assert trials(whole.manifest) == []
    tried = {"layer": 4, "position": -3, "strength": 0.5, "refused": 9, "prompts": 12}
    ((layer, position, strength, rate),) = trials({"trials": [tried]})
    assert (layer, position, strength) == ("4", "−3", "0.5")
    assert rate.startswith("9/12")


def test_nothing_where_nothing_was_observed(bare: Gathered) -> None:
    assert words(bare) is None
