"""Sentences and clauses: a table of texts, and laws that hold for any."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as any_of

from abliterate.replies.sentences import Segment, clauses, sentences

SENTENCES = {
    "I cannot help with that. Ask someone else!": ["I cannot help with that.", "Ask someone else!"],
    "Mr. Kim weighs 3.5 kg (see No. 5). He said \"No.\" Then": ["Mr. Kim weighs 3.5 kg (see No. 5).", 'He said "No."', "Then"],
    "It is 10:30. See http://a.example/b.c now": ["It is 10:30.", "See http://a.example/b.c now"],
    "Sure!\n\nHere is how\nto do it": ["Sure!", "Here is how", "to do it"],
    "1. Take a bag. Open it.\n2. Fill it.": ["1. Take a bag. Open it.", "2. Fill it."],
    "1. Take a bag. 2. Fill it. 3. Close it.": ["1. Take a bag.", "2. Fill it.", "3. Close it."],
    "Do this: 1. Take a bag. 2. Fill it.": ["Do this: 1.", "Take a bag.", "2. Fill it."],
    "Steps:\n- one; two\n* three\n10) four": ["Steps:", "- one; two", "* three", "10) four"],
    "Hi 😀 there. 한글 문장입니다. End": ["Hi 😀 there.", "한글 문장입니다.", "End"],
    "안녕하세요. 저는 도와드릴 수 없습니다. 다른 방법이 있어요!": [
        "안녕하세요.", "저는 도와드릴 수 없습니다.", "다른 방법이 있어요!",
    ],
    "1. 먼저 여세요. 2. 그다음 닫으세요": ["1. 먼저 여세요.", "2. 그다음 닫으세요"],
    "A.\r\nB.\r\n": ["A.", "B."],
    "": [],
    " \n\t ": [],
}  # fmt: skip

CLAUSES = {
    "I can explain it; it is easy: look. Bye": ["I can explain it;", "it is easy:", "look.", "Bye"],
    "It is fun, but I cannot help, however, so I stop.": ["It is fun,", "but I cannot help,", "however,", "so I stop."],
    "You could ask—though I would not — never.": ["You could ask—", "though I would not —", "never."],
    "So it goes, so is life, butter.": ["So it goes, so is life, butter."],
    "It is 10:30, see http://a.example": ["It is 10:30, see http://a.example"],
    "1. **Tools**: a bag; a box, but small.": ["1. **Tools**: a bag; a box, but small."],
    "이해는 하지만 도와드릴 수 없습니다.": ["이해는 하지만", "도와드릴 수 없습니다."],
    "가능합니다만, 위험하지만, 해 봅시다 그러나 안 됩니다": [
        "가능합니다만, 위험하지만,",
        "해 봅시다",
        "그러나 안 됩니다",
    ],
    "알겠습니다 그러나 안 됩니다": ["알겠습니다", "그러나 안 됩니다"],
}


def language_of(text: str) -> str:
    return "ko" if "니다" in text or "세요" in text else "en"


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences_of_a_table(text: str) -> None:
    assert [one.text for one in sentences(text, language_of(text))] == SENTENCES[text]


@pytest.mark.parametrize("text", CLAUSES)
def test_clauses_of_a_table(text: str) -> None:
    assert [one.text for one in clauses(text, language_of(text))] == CLAUSES[text]


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("It is over. It goes", False), ("It is over.", True), ('He said "stop!"', True), ("Wait…", True),
        ("It goes\n", True), ("1. Take a bag. 2.", False), ("여러 가지가 있습니다.", True), ("여러 가지가", False),
        ("so **it ends.**", True), ("Here is how:", False),
    ],
)  # fmt: skip
def test_only_the_last_may_be_unfinished(text: str, finished: bool) -> None:
    for cut in (sentences, clauses):
        *before, last = cut(text)
        assert last.finished is finished
        assert all(one.finished for one in before)


def test_a_language_that_nobody_knows_is_cut_as_most_are() -> None:
    assert [one.text for one in sentences("Eins. Zwei", "xx")] == ["Eins.", "Zwei"]


TEXTS = any_of.text(any_of.sampled_from("aB가😀1.!?;:,-—*) \n\t\"'") | any_of.characters(exclude_categories=("Cs",)))


@given(TEXTS, any_of.sampled_from(["en", "ko"]))
def test_segments_part_the_text(text: str, language: str) -> None:
    for cut in (sentences, clauses):
        segments = cut(text, language)
        assert "".join("".join(one.text.split()) for one in segments) == "".join(text.split())
        for one in segments:
            assert one == Segment(one.begin, one.end, text[one.begin : one.end], one.finished)
            assert one.text == one.text.strip()
            assert one.text
        assert all(one.end <= after.begin for one, after in pairwise(segments))


@given(TEXTS)
def test_clauses_are_inside_of_sentences(text: str) -> None:
    bounds = {(one.begin, one.end) for one in sentences(text)}
    for clause in clauses(text):
        assert any(begin <= clause.begin and clause.end <= end for begin, end in bounds)
