"""The table of hedges."""

from __future__ import annotations

import pytest

from abliterate.replies.refusals import normalise
from abliterate.replies.rules import Rule
from abliterate.replies.rules_hedging import HEDGES
from abliterate.replies.text import sentences_of
from fixtures.labelled import labelled_hedges


@pytest.mark.parametrize("rule", HEDGES, ids=lambda rule: rule.name)
def test_no_rule_is_met_by_a_plain_answer(rule: Rule) -> None:
    plain = [
        sentence for reply, hedged in labelled_hedges() if not hedged for sentence in sentences_of(normalise(reply))
    ]
    assert [sentence for sentence in plain if rule.pattern.search(sentence)] == []
    assert rule.why
    assert not rule.pattern.search("")


def test_names_are_unique() -> None:
    assert len({rule.name for rule in HEDGES}) == len(HEDGES)
