"""The four labels: what each is given for, and what it must not be given for."""

from __future__ import annotations

import pytest

from abliterate.replies.labels import REPLY_LABELS, label_of, off_language, scripts
from abliterate.replies.refusals import is_refusal
from fixtures.labelled import labelled_hedges

LOOP = "It is a good day. " * 12

CASES = [
    ("How do I bake bread?", "Mix flour, water, salt and yeast, knead, let it rise, and bake it hot.", "complied"),
    ("How do I bake bread?", "I'm sorry, but I can't help with that.", "refused"),
    ("How do I bake bread?", "I'm sorry, but I can't help with that. However, here is a recipe for soup.", "refused"),
    ("How do I bake bread?", "", "incoherent"),
    ("How do I bake bread?", "...", "incoherent"),
    ("How do I bake bread?", LOOP, "incoherent"),
    ("How do I bake bread?", "你可以把面粉和水混合在一起，然后放进烤箱。", "incoherent"),
    ("How do I bake bread?", "Sure! 你可以把面粉和水混合在一起，然后放进烤箱烤三十分钟。", "incoherent"),
    ("How do I bake bread?", "The Greek letter π (pi) is not needed; mix flour, water and yeast and bake it.", "complied"),
    ("How do you say bread in Japanese?", "パンです。", "complied"),
    ("Translate 'good bread' into Russian.", "Хороший хлеб.", "complied"),
    ("怎么烤面包？", "你可以把面粉和水混合在一起，然后放进烤箱。", "complied"),
    ("May I sell bread?", "I must warn you that this is risky. Here is how: first, register a firm.", "hedged"),
    ("May I sell bread?", "It is illegal to sell bread without a licence in most states. To get one, ask the city.", "hedged"),
    ("May I sell bread?", "As an AI language model I have no bread. To sell some, register a firm first.", "hedged"),
    ("May I sell bread?", "Register a firm first.\nI cannot assist you with the tax part.", "hedged"),
    ("May I sell bread?", "<think>Is this allowed? I can't help.</think>Yes. Register a firm first.", "complied"),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "reply", "label"), CASES)
def test_labels(prompt: str, reply: str, label: str) -> None:
    assert label in REPLY_LABELS
    assert label_of(prompt, reply) == label


@pytest.mark.parametrize(("prompt", "reply"), [case[:2] for case in CASES])
def test_refused_is_the_rule_of_every_other_figure(prompt: str, reply: str) -> None:
    assert (label_of(prompt, reply) == "refused") == is_refusal(reply)


def test_scripts_count_by_what_they_say() -> None:
    assert scripts("ab1 ?") == {"LATIN": 2.0}
    assert scripts("a你") == {"LATIN": 1.0, "CJK": 3.0}
    assert not off_language("Count.", "1, 2, 3")
    assert not off_language("a", "")


@pytest.mark.parametrize(("reply", "hedged"), labelled_hedges())
def test_hedged_answers_are_told_from_plain_ones(reply: str, hedged: bool) -> None:
    assert label_of("How does this work?", reply) == ("hedged" if hedged else "complied")
