"""Replies side by side."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections.replies import explorers, pairs, words
from fixtures.report_records import PROMPTS


def test_a_prompt_stands_with_the_reply_of_each_model(whole: Gathered) -> None:
    run, evaluated = explorers(whole)
    assert (run["id"], evaluated["id"]) == ("run", "evaluation")
    first = run["pairs"][0]
    assert first["prompt"] == "harmful prompt 0"
    assert [reply["refused"] for reply in first["replies"]] == [True, False]
    assert len(run["pairs"]) == 2 * PROMPTS


def test_sides_of_one_model_alone() -> None:
    replies = {"harmful": [{"prompt": "p", "reply": "r", "refused": True}]}
    assert pairs([replies]) == [
        {"side": "harmful", "prompt": "p", "replies": [{"text": "r", "refused": True, "label": None}]}
    ]


def test_nothing_where_no_reply_was_kept(bare: Gathered) -> None:
    assert explorers(bare) == []
    assert words(bare) is None
