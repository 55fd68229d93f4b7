"""How far two labellers agree."""

from __future__ import annotations

import pytest

from abliterate.studies.phases.agreement import agreement_of, kappa_of
from abliterate.studies.phases.labels import CutReply, LabelledReply, cut, labelled
from fixtures.tiny_chat import tiny_chat

BAKE, STOP, FLOUR = "Mix the flour and the water.", "I can't help with that.", "Let it rest for an hour."


def reply(text: str) -> LabelledReply:
    return labelled(cut_text(text))


def cut_text(text: str) -> CutReply:
    tokenizer = tiny_chat().tokenizer
    return cut(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer)


def said(one: CutReply, begin: int, end: int) -> str:
    return str(tiny_chat().tokenizer.decode(list(one.tokens[begin:end]))).strip()


def test_kappa_of_textbook_tables() -> None:
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert kappa_of(pairs) == pytest.approx(0.4)
    found = agreement_of([[pair] for pair in pairs])
    assert found.low < 0.4 < found.high
    assert found.segments == 50
    assert agreement_of([]).to_json()["kappa"] is None
