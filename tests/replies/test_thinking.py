"""Thoughts are no reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.prompts.chat_format import THINK_BLOCKS
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
