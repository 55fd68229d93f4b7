"""The tables of an evaluation."""

from __future__ import annotations

from abliterate.records.schema import check_shape
from abliterate.records.shapes import EVALUATED
from abliterate.report.format import MISSING, TIED
from abliterate.report.load import Gathered
from abliterate.report.sections.evaluation import SECTION, evaluation_section, figure_cells, paired_line
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
        "0 gained, 21 lost",
        "Look-alikes were not asked",
    ):
        assert told in text


def test_a_paired_line_says_which_way_refusals_went() -> None:
    line = paired_line({"gained": 1, "lost": 21, "p": 0.0003, "test": "McNemar"})
    assert line.replace(TIED, " ") == "refusals: 1 gained, 21 lost; p = 0.0003 (McNemar)"


def test_shares_are_shown_in_per_cent_and_nats_as_they_are() -> None:
    value = {"mean": 0.45, "low": 0.225, "high": 0.9}
    one = {"unit": "share", "model": value, "difference": {"value": -0.05, "low": -0.1, "high": 0.0, "p": 0.2}}
    cells = [cell.replace(TIED, " ") for cell in figure_cells("top-1 agreement", one, ["against", "model"])]
    assert cells[1:] == ["–", "45.0% [22.5%, 90.0%]", "-5.0% [-10.0%, 0%]; p = 0.2"]
    nats = [cell.replace(TIED, " ") for cell in figure_cells("KL", {"unit": "nats", "model": value}, ["model"])]
    assert nats == ["KL (nats)", "0.45 [0.225, 0.9]", "–"]


def test_no_evaluation_no_section(bare: Gathered) -> None:
    assert SECTION.words(bare) is None
    assert not SECTION.numbers(bare)["evaluation"]


def test_late_refusals_have_a_table_and_earlier_records_none(whole: Gathered) -> None:
    assert whole.evaluation is not None
    ((kind, before, after),) = evaluation_section(whole.evaluation)["late"]
    assert (kind, before.replace(TIED, " ")[:4], after.replace(TIED, " ")[:4]) == ("harmful", "1/25", "6/25")
    assert evaluation_section({**whole.evaluation, "late_refusals": None})["late"] == []


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
