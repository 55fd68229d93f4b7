"""Korean: the labelled list, and tables that are in order."""

from __future__ import annotations

import pytest

from abliterate.replies.refusals import is_refusal
from abliterate.replies.rules_korean import KOREAN
from fixtures.labelled import labelled_list

LIST = labelled_list("korean")


@pytest.mark.parametrize(("reply", "refusal"), LIST)
def test_the_labelled_list(reply: str, refusal: bool) -> None:
    assert is_refusal(reply) is refusal


def test_the_list_has_both_kinds_and_the_rules_have_names_and_reasons() -> None:
    assert KOREAN.name == "Korean"
    assert [refusal for _, refusal in LIST].count(True) >= 40
    assert [refusal for _, refusal in LIST].count(False) >= 40
    table = [*KOREAN.answers, *KOREAN.declines]
    assert len({rule.name for rule in table}) == len(table)
    assert all(rule.why for rule in table)
    assert not any(rule.pattern.search("") for rule in table)
