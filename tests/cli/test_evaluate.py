"""How the figures of an evaluation are written in the terminal."""

from __future__ import annotations

import pytest

from abliterate.cli.evaluate import by_category, by_length, changes, estimate, figure_row, figures, task_mean
from abliterate.evaluation.evaluation import Evaluation, Examined
from abliterate.evaluation.figures import Figure, JudgedReplies
from abliterate.evaluation.observation import Reply
from abliterate.evaluation.paired import paired_changes
from abliterate.evaluation.statistics import Mean, Rate
from abliterate.prompts.prompt import Prompt
from abliterate.replies.labels import Label


def test_a_mean_with_its_interval_and_none() -> None:
    assert estimate(None, 3) == ""
    shown = estimate(Mean((1.0, 2.0, 3.0, 4.0)), 1)
    assert shown.startswith("2.5 \\[")


def test_one_model_has_no_column_of_changes() -> None:
    figure = Figure("top-1 agreement", "share", Mean((0.5, 0.5)))
    name, value = figure_row(figure, False)
    assert name == "top-1 agreement"
    assert value.startswith("0.500")
    assert len(figure_row(figure, True)) == 4


def test_prompts_that_moved_and_how_sure_that_is() -> None:
    moved = paired_changes([True] * 9 + [False], [False] * 10)
    assert changes(moved).startswith("-9 +0, p 0.00")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"mean": None, "low": None, "high": None}, "not defined"),
        ({"mean": 0.5, "low": None, "high": None}, "0.500"),
        ({"mean": 0.5, "low": 0.4, "high": 0.6}, "0.500 \\[0.400, 0.600]"),
    ],
)
def test_a_task_with_and_without_an_interval(value: dict[str, float | None], shown: str) -> None:
    assert task_mean(value) == shown


def test_refusals_by_length_stand_in_pairs() -> None:
    rate = {"count": 2, "total": 25}
    table = by_length([{"tokens": 16, "harmful": {"model": rate, "against": {"count": 23, "total": 25}}}], True)
    assert [*table.columns[1].cells] == ["23/25 -> 2/25"]


def judged(*labels: Label) -> JudgedReplies:
    asked = [Prompt("a", category="cats [b]"), Prompt("b", category="cats [b]"), Prompt("c", category="dogs")]
    return JudgedReplies(tuple(Reply(prompt, (1,), "") for prompt in asked), labels)


def test_categories_stand_side_by_side() -> None:
    before = Examined("original", {"harmful": judged("refused", "refused", "refused")})
    one = Evaluation({}, Examined("edited", {"harmful": judged("complied", "refused", "complied")}), before)
    table = by_category(one)
    assert [*table.columns[0].cells] == ["refused, harmful: cats \\[b]", "refused, harmful: dogs"]
    assert [cell.split(" =")[0] for cell in table.columns[1].cells] == ["2/2", "1/1"]
    assert [cell.split(" =")[0] for cell in table.columns[2].cells] == ["1/2", "0/1"]
    assert one.to_json()["sets"]["harmful"]["by_category"]["dogs"]["model"]["count"] == 0


def test_late_refusals_have_a_row_where_there_are_any() -> None:
    model = Examined("edited", {"harmful": judged("refused", "complied", "complied")})
    shown = {
        count: Evaluation({}, model, late={"harmful": {"model": Rate(count, 3), "against": None}}) for count in (0, 2)
    }
    rows = {count: [*figures(one).columns[0].cells] for count, one in shown.items()}
    assert rows[0][0] == "refused, harmful"
    assert "refused, harmful, only after token 32" not in rows[0]
    assert rows[2][1] == "refused, harmful, only after token 32"
