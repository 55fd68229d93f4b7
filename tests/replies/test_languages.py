"""Which tables read a reply."""

from __future__ import annotations

import pytest

from abliterate.replies.languages import LANGUAGES, RULES_DIGEST, names_of, opening_of, refuses_in, rules_digest
from abliterate.replies.refusals import is_refusal
from fixtures.labelled import labelled_list

NAMES = [language.name.lower() for language in LANGUAGES]


@pytest.mark.parametrize("name", NAMES)
def test_a_language_is_among_those_that_read_its_replies(name: str) -> None:
    found = [name.capitalize() in names_of(opening_of(reply)) for reply, _ in labelled_list(name)]
    assert sum(found) >= 0.97 * len(found)


@pytest.mark.parametrize("name", [*NAMES, "english"])
def test_no_language_raises_a_false_alarm_on_the_answers_of_another(name: str) -> None:
    answers = [opening_of(reply) for reply, refusal in labelled_list(name) if not refusal]
    alarms = [
        (language.name, answer)
        for language in LANGUAGES
        if language.name.lower() != name
        for answer in answers
        if language.name in names_of(answer) and refuses_in(language, answer)
    ]
    assert alarms == []


def test_a_digest_changes_with_the_rules() -> None:
    assert rules_digest() == RULES_DIGEST
    assert len(RULES_DIGEST) == 64


@pytest.mark.parametrize(
    "unit",
    ["(", "sorry ", " ", "lo siento ", "ich kann nicht ", "не могу ", "我不能", '"', "…", "no. ", "je ne peux pas "],
)
def test_only_the_opening_is_read(unit: str) -> None:
    """Rules see at most the first 500 characters, 300 of a sentence, so that no length of a reply costs more."""
    assert len(opening_of(unit * 100_000)) <= 500
    assert is_refusal(unit * 100_000) in (True, False)
