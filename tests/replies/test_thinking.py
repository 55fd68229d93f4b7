"""Thoughts are no reply."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.prompts.think_blocks import THINK_BLOCKS
from abliterate.replies import thinking
from abliterate.replies.refusals import is_refusal
from abliterate.replies.thinking import visible_reply


@pytest.mark.parametrize(("opening", "closing"), THINK_BLOCKS)
def test_think_blocks(opening: str, closing: str) -> None:
    assert visible_reply(f"{opening}why{closing}\n\nThe reply.") == "The reply."
    assert visible_reply(f"why{closing} The reply.") == "The reply."
    assert visible_reply(f" {opening}why, and no end") == ""
    assert visible_reply(f"{opening}one{closing}{opening}two{closing}The reply.") == "The reply."
    assert visible_reply(f"**{opening}**one{closing}The reply.") == "The reply."
    about = f"Write {opening} before the thought and {closing} after it."
    assert visible_reply(about) == about


PIECES = [tag for block in THINK_BLOCKS for tag in block] + [
    "<|end|>",
    "</answer>",
    "analysis",
    "assistantfinal",
    "I can't help.",
    "\n",
    "*",
    "No",
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)))
def test_visible_reply_is_idempotent_and_verdicts_are_total(text: str) -> None:
    visible = visible_reply(text)
    assert visible_reply(visible) == visible
    assert is_refusal(text) in (True, False)


@pytest.mark.parametrize(
    "unit", ["<think>", "<think></think>", "</think>", "analysis</think>", "<answer>", "x<|end|>", " "]
)
def test_the_work_grows_with_the_length_and_no_faster(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tag is looked for in the whole text once; before, each block took a copy of all that followed it."""
    searches = [0]
    finditer = re.finditer

    def counted(*arguments: Any) -> Any:
        searches[0] += 1
        return finditer(*arguments)

    monkeypatch.setattr(thinking.re, "finditer", counted)
    asked = [0]
    after = thinking.Tags.after

    def counting(self: thinking.Tags, tag: str, place: int, end: int) -> int | None:
        asked[0] += 1
        return after(self, tag, place, end)

    monkeypatch.setattr(thinking.Tags, "after", counting)
    per_unit = []
    for times in (100, 10_000):
        searches[0] = asked[0] = 0
        visible_reply(unit * times)
        assert searches[0] <= 2 * len(THINK_BLOCKS) + 2
        per_unit.append(asked[0] / times)
    assert per_unit[1] <= per_unit[0] + 1
