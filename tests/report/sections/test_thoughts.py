"""The component over the thoughts of a model that thinks."""

from __future__ import annotations

from dataclasses import replace

from abliterate.report.load import Gathered
from abliterate.report.sections.thoughts import SECTION


def test_it_is_shown_where_something_was_thought(whole: Gathered) -> None:
    assert whole.observations is not None
    assert SECTION.words(whole) == {"layer": 3, "harmful": 5, "harmless": 4}
    assert SECTION.numbers(whole) == {"cliff": whole.observations["cliff"]}


def test_nothing_is_shown_where_nothing_was_thought(whole: Gathered, bare: Gathered) -> None:
    assert whole.observations is not None
    usual = {name: value for name, value in whole.observations.items() if name != "cliff"}
    for one in (bare, replace(whole, observations=usual)):
        assert SECTION.words(one) is None
        assert SECTION.numbers(one) == {"cliff": None}
