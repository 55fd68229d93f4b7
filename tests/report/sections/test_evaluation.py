"""The tables of an evaluation."""

from __future__ import annotations

from abliterate.records.schema import check_shape
from abliterate.records.shapes import EVALUATED
from abliterate.report.format import MISSING
from abliterate.report.load import Gathered
from abliterate.report.sections.evaluation import SECTION, evaluation_section
from fixtures.report_records import rate


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


def test_categories_have_a_table_where_there_are_any(whole: Gathered) -> None:
    assert whole.evaluation is not None
    assert evaluation_section(whole.evaluation)["categories"] == []
    rates = {"cats <b>": {"model": rate(1, 9), "against": rate(8, 9)}, "dogs": {"model": rate(0, 2), "against": None}}
    sets = {"harmful": {**whole.evaluation["sets"]["harmful"], "by_category": rates}}
    first, second = evaluation_section({**whole.evaluation, "sets": sets})["categories"]
    assert first[:2] == ("harmful", "cats <b>")
    assert "8/9" in first[2]
    assert "1/9" in first[3]
    assert second[2] == MISSING
    check_shape({**whole.evaluation, "sets": sets}, EVALUATED, "x")
