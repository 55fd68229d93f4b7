"""Replies cut and labelled: planted transcripts, exactly, and what becomes of them."""

from __future__ import annotations

import pytest

from abliterate.prompts.forms import load_forms
from abliterate.replies.concepts import CONTENT, SAFETY
from abliterate.studies.phases.agreement import agreement_of, kappa_of
from abliterate.studies.phases.claims import Pair, continued_claims, next_is_safe
from abliterate.studies.phases.labels import CutReply, LabelledReply, cut, first_round, labelled
from abliterate.studies.phases.outcomes import INCOHERENT, changed_outcomes, edited, outcome_name, outcomes_of
from fixtures.tiny_chat import tiny_chat

BAKE, STOP, FLOUR = "Mix the flour and the water.", "I can't help with that.", "Let it rest for an hour."


def reply(text: str) -> LabelledReply:
    return labelled(cut_text(text))


def cut_text(text: str) -> CutReply:
    tokenizer = tiny_chat().tokenizer
    return cut(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer)


def said(one: CutReply, begin: int, end: int) -> str:
    return str(tiny_chat().tokenizer.decode(list(one.tokens[begin:end]))).strip()


def test_a_planted_transcript_turns_where_it_was_planted() -> None:
    one = reply(f"{BAKE} {FLOUR} {STOP}")
    assert [phase.concept for phase in one.phases] == [CONTENT, SAFETY]
    (turn,) = one.transitions
    assert said(one.cut, turn.token, len(one.cut.tokens)) == STOP
    assert said(one.cut, 0, one.cut.fill_end) == BAKE
    assert one.onset.entered
    assert one.onset.token == turn.token
    assert not one.refuses
    assert reply(f"{BAKE} {STOP}").refuses


def test_segments_hold_each_token_once() -> None:
    one = cut_text(f"Well, {BAKE}\n1. Flour. Fine flour.\n2. Water.\n\nIt is easy; {STOP} ")
    assert [piece.begin for piece in one.pieces] == [0, *(piece.end for piece in one.pieces[:-1])]
    assert one.pieces[-1].end == len(one.tokens)
    assert [piece.text for piece in one.pieces if "lour." in piece.text][-1] == "1. Flour. Fine flour."


def test_a_loop_is_read_to_its_first_round() -> None:
    one = cut_text(f"{BAKE} {FLOUR} {FLOUR} {FLOUR} Let it")
    assert [piece.text for piece in one.pieces] == [BAKE, FLOUR]
    assert one.circle < len(one.tokens)
    assert first_round(["1. a b", "2. a b", "3. a b"]) == 1
    assert first_round(["a", "b", "a", "b"]) == 4


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


def test_outcomes_are_counted_and_paired() -> None:
    forms = load_forms()
    texts = [f"{BAKE} {FLOUR}"] * 9 + [STOP]
    begun = outcomes_of(forms["open"], [reply(text) for text in texts], ["a"] * 5 + ["b"] * 5)
    asked = outcomes_of(forms["question"], [reply(STOP)] * 10, ["a"] * 5 + ["b"] * 5)
    assert begun.table["goes on"].count == 9
    assert begun.by_category["b"]["evades"].count == 1
    assert asked.table["refuses"].count == 10
    assert begun.turned_of_going_on.total == 9
    (verdict,) = continued_claims({"question": asked, "open": begun})
    assert verdict.verdict == "shown"
    assert "9/10" in verdict.figure
    assert "0/10" in verdict.figure
    silent = outcomes_of(forms["question"], [reply("")] * 10, ["a"] * 10)
    assert not Pair(silent, begun).kept
    (verdict,) = continued_claims({"question": silent, "open": begun})
    assert verdict.verdict == "not decidable"
    assert "nan" not in verdict.sentence
    moved = edited(asked, outcomes_of(forms["question"], [reply(BAKE)] * 10, ["a"] * 10))
    assert moved.refused.lost == 10
    assert moved.moved == {"refuses": {"answers": 10}}
    assert changed_outcomes(["a", "a", "b"], ["a", "b", "b"]) == {"a": {"a": 1, "b": 1}, "b": {"b": 1}}


def test_the_sentence_behind_the_fill_is_looked_at_alone() -> None:
    assert next_is_safe(reply(f"{BAKE} {STOP}")) == (False, True)
    assert next_is_safe(reply(f"{BAKE} {FLOUR} {STOP}")) == (False, False)
    assert next_is_safe(reply("Mix the")) is None


def test_kappa_of_textbook_tables() -> None:
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert kappa_of(pairs) == pytest.approx(0.4)
    found = agreement_of([[pair] for pair in pairs])
    assert found.low < 0.4 < found.high
    assert found.segments == 50
    assert agreement_of([]).to_json()["kappa"] is None
