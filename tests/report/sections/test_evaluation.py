"""The tables of an evaluation."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections.evaluation import SECTION


def test_an_evaluation_is_shown_with_its_settings(whole: Gathered) -> None:
    shown = SECTION.words(whole)
    assert shown is not None
    text = repr(shown)
    for told in (
        "rules",
        "KL, last prompt token (nats)",
        "top-1 agreement",
        "arc_easy",
        "21 lost",
        "Look-alikes were not asked",
    ):
        assert told in text


def test_no_evaluation_no_section(bare: Gathered) -> None:
    assert SECTION.words(bare) is None
    assert not SECTION.numbers(bare)["evaluation"]
