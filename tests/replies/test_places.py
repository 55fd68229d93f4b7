"""The places of a reply, in token ids that a model wrote."""

from __future__ import annotations

import pytest

from abliterate.errors import InputError
from abliterate.prompts.forms import load_forms
from abliterate.prompts.texts import Text
from abliterate.replies.places import sentence_ends, with_reply
from fixtures.tiny_chat import tiny_chat

TOKENIZER = tiny_chat().tokenizer
ASKED = Text.of(tiny_chat(), load_forms()["question"], "bake bread")


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def said(tokens: list[int]) -> str:
    return str(TOKENIZER.decode(tokens))


@pytest.mark.parametrize(
    ("reply", "language", "ends"),
    [
        ("I cannot help. Ask a baker! Or", "en", ["I cannot help.", "I cannot help. Ask a baker!"]),
        ("안녕하세요. 빵을 구우세요!", "ko", ["안녕하세요.", "안녕하세요. 빵을 구우세요!"]),
        ("Fine 😀. Bye 한글", "en", ["Fine 😀."]),
        ("1. Mix it. 2. Bake it.", "en", ["1. Mix it.", "1. Mix it. 2. Bake it."]),
        ("It goes on and on", "en", []),
    ],
)
def test_sentences_end_where_their_last_character_is_complete(reply: str, language: str, ends: list[str]) -> None:
    tokens = ids(reply)
    found = sentence_ends(tokens, TOKENIZER, language)
    assert [said(tokens[: place + 1]).rstrip() for place in found] == ends


def test_an_end_inside_of_a_token_is_at_the_end_of_the_token() -> None:
    (single,) = (token for token, place in TOKENIZER.get_vocab().items() if place == ids(".")[0])
    tokenizer = tiny_chat().tokenizer
    tokenizer.add_tokens([". So"])
    tokens = tokenizer("It is. So be it.", add_special_tokens=False)["input_ids"]
    assert single == "."
    assert ". So" in [tokenizer.decode([token]) for token in tokens]
    first, last = sentence_ends(tokens, tokenizer)
    assert tokenizer.decode(tokens[: first + 1]) == "It is. So"
    assert last == len(tokens) - 1


def test_a_text_with_a_reply_has_both_kinds_of_places() -> None:
    reply = [*ids("Mix it. Bake it"), TOKENIZER.eos_token_id]
    text = with_reply(ASKED, reply, TOKENIZER)
    start = len(ASKED.tokens)
    assert text.tokens == (*ASKED.tokens, *reply)
    assert {name: text.places[name] for name in ASKED.places} == ASKED.places
    assert text.place("reply[0]") == start == text.place("prompt_end") + 1
    assert text.place("reply_end") == text.place(f"reply[{len(reply) - 1}]") == len(text.tokens) - 1
    assert said(list(text.tokens[start : text.place("sentence_end[0]") + 1])) == "Mix it."
    assert "sentence_end[1]" not in text.places


def test_ids_that_no_tokenizer_would_give_are_taken_as_they_are() -> None:
    tokens = [token for letter in "No way. Go on." for token in ids(letter)]
    assert len(tokens) > len(ids("No way. Go on."))
    text = with_reply(ASKED, tokens, TOKENIZER)
    assert text.tokens[len(ASKED.tokens) :] == tuple(tokens)
    assert text.place("sentence_end[0]") - text.place("reply[0]") == 6
    assert text.place("sentence_end[1]") == text.place("reply_end")


def test_a_begun_reply_is_no_part_of_the_reply() -> None:
    begun = Text.of(tiny_chat(), load_forms()["reply-closed"], "bake bread")
    text = with_reply(begun, ids(" Mix it."), TOKENIZER)
    assert text.place("reply[0]") == len(begun.tokens)
    assert text.place("sentence_end[0]") == text.place("reply_end")


def test_an_empty_reply_adds_nothing_and_a_second_one_is_refused() -> None:
    assert with_reply(ASKED, [], TOKENIZER) == ASKED
    with pytest.raises(InputError, match="the text has a reply already"):
        with_reply(with_reply(ASKED, ids("No."), TOKENIZER), ids("No."), TOKENIZER)
