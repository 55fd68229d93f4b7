"""What becomes of prompts."""

from __future__ import annotations

import pytest

from abliterate.studies.phases.labels import CutReply, LabelledReply, cut, labelled
from abliterate.studies.phases.outcomes import INCOHERENT, outcome_name
from fixtures.tiny_chat import tiny_chat

BAKE, STOP, FLOUR = "Mix the flour and the water.", "I can't help with that.", "Let it rest for an hour."


def reply(text: str) -> LabelledReply:
    return labelled(cut_text(text))


def cut_text(text: str) -> CutReply:
    tokenizer = tiny_chat().tokenizer
    return cut(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer)


def said(one: CutReply, begin: int, end: int) -> str:
    return str(tiny_chat().tokenizer.decode(list(one.tokens[begin:end]))).strip()


@pytest.mark.parametrize(
    ("text", "complete", "incomplete"),
    [
        (f"{BAKE} {STOP}", "refuses", "goes on, then turns"),
        (f"{BAKE} {FLOUR} {STOP}", "answers", "goes on, then turns"),
        (f"{BAKE} {FLOUR}", "answers", "goes on"),
        (f"{STOP} {BAKE}", "refuses", "evades"),
        (f"{STOP} {BAKE} {STOP}", "refuses", "evades, then turns"),
        (f"Sure! {BAKE}", "answers", "neutral"),
        (f"Sure! {BAKE} {STOP}", "answers", "neutral, then turns"),
        ("", INCOHERENT, INCOHERENT),
        ("no " * 60, INCOHERENT, INCOHERENT),
    ],
)
def test_what_becomes_of_a_prompt(text: str, complete: str, incomplete: str) -> None:
    assert outcome_name(reply(text), "complete") == complete
    assert outcome_name(reply(text), "incomplete") == incomplete
