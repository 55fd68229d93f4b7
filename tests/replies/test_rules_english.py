"""The table of rules."""

from __future__ import annotations

import re

import pytest

from abliterate.replies import refusals
from abliterate.replies.refusals import is_refusal
from abliterate.replies.rules import Rule
from fixtures.labelled import LABELLED

TABLES = {
    name: table
    for name, table in vars(refusals).items()
    if isinstance(table, tuple) and table and isinstance(table[0], Rule)
}


@pytest.mark.parametrize("name", TABLES)
def test_rules_have_unique_names_and_reasons(name: str) -> None:
    assert len({rule.name for rule in TABLES[name]}) == len(TABLES[name])
    assert all(rule.why for rule in TABLES[name])


@pytest.mark.parametrize("rule", refusals.LEADS, ids=lambda rule: rule.name)
def test_a_lead_alone_is_no_refusal_and_stripping_ends(rule: Rule) -> None:
    assert not is_refusal("")
    assert refusals.strip_leads("well, well, well, " * 20 + "yes") == "yes"
    assert not rule.pattern.match(""), "an empty match would strip nothing, for ever"


@pytest.mark.parametrize("rule", [*refusals.DECLINES, *refusals.NOT_REFUSING], ids=lambda rule: rule.name)
def test_every_rule_is_met_by_a_labelled_reply(rule: Rule) -> None:
    opened = [sentence for example in LABELLED for sentence in refusals.opening_sentences(example["reply"])]
    clauses = [part for sentence in opened for part in re.split(r", |and ", sentence)]
    assert any(rule.pattern.match(text) for text in opened + clauses)
