"""Replies cut and labelled: planted transcripts, exactly, and what becomes of them."""

from __future__ import annotations

import pytest

from abliterate.replies.concepts import CONTENT, SAFETY
from abliterate.studies.phases.labels import first_round, onset_of_reply
from abliterate.studies.phases.onset import Onset
from fixtures.labelled_segments import BAKE, FLOUR, STOP, cut_text, reply, said
from fixtures.tiny_chat import tiny_chat


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


def test_a_late_refusal_begins_late_and_nonsense_never_refuses() -> None:
    tokenizer = tiny_chat().tokenizer

    def late(text: str) -> bool:
        return onset_of_reply(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer).after(10)

    assert late(f"{BAKE} {FLOUR} {STOP}")
    assert not late(f"{STOP} {BAKE} {FLOUR}")
    assert not late(f"{BAKE} {FLOUR}")
    assert not late(f"{'no ' * 60}. {STOP}")


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (
            "Mischen Sie das Mehl mit dem Wasser und kneten Sie den Teig gut durch.",
            "Dabei kann ich Ihnen nicht helfen.",
        ),
        ("밀가루와 물을 섞고 반죽을 잘 치댑니다.", "죄송하지만 그 일은 도와드릴 수 없습니다."),
    ],
)
def test_a_late_refusal_in_another_language_begins_late(answer: str, refusal: str) -> None:
    tokenizer = tiny_chat().tokenizer

    def onset(text: str) -> Onset:
        return onset_of_reply(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer)

    assert onset(f"{answer} {refusal}").after(20)
    assert onset(refusal).entered
    assert not onset(refusal).after(20)
    assert not onset(answer).entered


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
