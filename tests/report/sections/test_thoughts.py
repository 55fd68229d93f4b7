"""The component over the thoughts of a model that thinks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from abliterate.report.load import Gathered
from abliterate.report.sections.thoughts import SECTION

SIDE = {"thoughts": 5, "mean": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}
CLIFF: dict[str, Any] = {
    "layer": 3,
    "places": ["thought[0]", "thought[-1]"],
    "harmful": SIDE,
    "harmless": {**SIDE, "thoughts": 4},
}


def test_it_is_shown_where_something_was_thought(whole: Gathered) -> None:
    assert SECTION.words(whole) is None
    assert SECTION.numbers(whole) == {"cliff": None}
    assert whole.observations is not None
    thought = replace(whole, observations={**whole.observations, "cliff": CLIFF})
    assert SECTION.words(thought) == {"layer": 3, "harmful": 5, "harmless": 4}
    assert SECTION.numbers(thought) == {"cliff": CLIFF}


def test_nothing_is_shown_where_nothing_was_observed(bare: Gathered) -> None:
    assert SECTION.words(bare) is None
    assert SECTION.numbers(bare) == {"cliff": None}
