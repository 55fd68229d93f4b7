"""Behaviours other than refusing, and who says that a reply shows them."""

from __future__ import annotations

import pytest

from abliterate.replies.behaviours import BEHAVIOURS, REFUSAL, Scorer
from abliterate.replies.refusals import is_refusal


@pytest.mark.parametrize("scorer", BEHAVIOURS.values())
def test_each_scorer_keeps_the_protocol_and_finds_nothing_in_an_empty_reply(scorer: Scorer) -> None:
    assert isinstance(scorer, Scorer)
    assert not scorer.shows("")


@pytest.mark.parametrize(
    "reply", ["I can't help with that.", "Preheat the oven first.", "I'm sorry, but I cannot do this."]
)
def test_refusal_is_what_every_run_counts(reply: str) -> None:
    assert BEHAVIOURS[REFUSAL].shows(reply) == is_refusal(reply)


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        ("The town is a testament to its builders.", True),
        ("We delve into the records.", True),
        ("It\N{RIGHT SINGLE QUOTATION MARK}s important to note that bread rises.", True),
        ("VIBRANT colours.", True),
        ("<think>a rich tapestry</think>Knead the dough and wait an hour.", False),
        ("Knead the dough and wait an hour.", False),
        ("The vibrants were sold.", False),
    ],
)
def test_slop_is_a_worn_phrase_between_word_boundaries_outside_of_thoughts(reply: str, shown: bool) -> None:
    assert BEHAVIOURS["slop"].shows(reply) == shown
