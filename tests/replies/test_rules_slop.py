"""Worn phrases are well-formed rules, each of which finds itself and is not found inside of words."""

from __future__ import annotations

import re

import pytest

from abliterate.replies.rules_slop import SLOP, WORN


@pytest.mark.parametrize("phrase", WORN)
def test_each_phrase_is_a_rule_of_its_own_in_small_letters(phrase: str) -> None:
    assert re.compile(phrase)
    assert WORN.count(phrase) == 1
    assert re.sub(r"\\[a-zA-Z]", "", phrase) == re.sub(r"\\[a-zA-Z]", "", phrase).casefold()


@pytest.mark.parametrize(
    "text", ["a sense of wonder", "delving into", "not just a town, but", "golden hue", "once upon a time"]
)
def test_what_they_are_meant_for_is_found(text: str) -> None:
    assert SLOP.search(f"here is {text} and more")


@pytest.mark.parametrize("text", ["sensible", "the goldener hue", "delve in", "stands", "nestleder"])
def test_parts_of_words_are_not(text: str) -> None:
    assert not SLOP.search(text)
