"""Replies side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from abliterate.chat.conversation import ChatReply
from abliterate.chat.panes import panes
from abliterate.chat.sides import ChatSides


def reply_of(tokenizer: PreTrainedTokenizerBase, text: str, cut: int = 0, **changes: object) -> ChatReply:
    """The reply of this text, without its last `cut` tokens."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ChatReply(tokenizer, tuple(ids[: len(ids) - cut]), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [120, 80])
def test_panes_stand_side_by_side_where_there_is_room(
    sides: ChatSides, tokenizer: PreTrainedTokenizerBase, width: int
) -> None:
    console = Console(width=width, height=30, force_terminal=True)
    replies = [reply_of(tokenizer, text, ended="end") for text in ("\x1b[2J[red]No[/red]", "word " * 300 + "last")]
    with console.capture() as drawn:
        console.print(panes(sides.sides, replies, console, rows=20))
    shown = drawn.get()
    assert "␛[2J[red]No[/red]" in shown
    assert "\x1b[2J" not in shown
    assert "last" in shown
    assert shown.count("\n") <= 20
    beside = [line for line in shown.splitlines() if "original" in line and "edited" in line]
    assert len(beside) == (width >= 100)
    with console.capture() as whole:
        console.print(panes(sides.sides, replies, console))
    assert whole.get().count("word") == 300


def test_a_growing_reply_hides_half_a_character(tokenizer: PreTrainedTokenizerBase) -> None:
    growing = reply_of(tokenizer, "café", cut=1)
    assert growing.text == growing.answer == "caf"
    assert replace(growing, ended="end").text == "caf\ufffd"


def test_a_thought_is_dim(sides: ChatSides, tokenizer: PreTrainedTokenizerBase) -> None:
    console = Console(width=80, force_terminal=True)
    for text, thought in (("<think>\nOnly a plan", "plan"), ("<think>\nplan\n</think>\n\nYes.", "plan")):
        with console.capture() as drawn:
            console.print(panes(sides.sides[:1], [reply_of(tokenizer, text)], console))
        dim = drawn.get().partition("Yes.")[0]
        assert "\x1b[2m" in dim
        assert thought in dim
    with console.capture() as drawn:
        console.print(panes(sides.sides[:1], [ChatReply(tokenizer)], console))
    assert "…" in drawn.get()
