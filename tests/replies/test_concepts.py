"""What segments of replies are about, against 150 that were labelled by hand."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from abliterate.replies.concepts import concept_of
from abliterate.replies.rules_concepts import SAFETY_RULES

SEGMENTS = Path(__file__).parent / "segments.tsv"
LEAST = 0.6


def labelled(part: str | None = None) -> list[tuple[str, str]]:
    """Return the hand's label and the text of each segment, of one part or all."""
    lines = SEGMENTS.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [(label, text) for own, label, text in rows if part in (None, own)]


def kappa(pairs: list[tuple[str, str]]) -> float:
    """Cohen's kappa, written out here so that the package's own is not its own judge."""
    first, second = Counter(one for one, _ in pairs), Counter(two for _, two in pairs)
    agreed = sum(one == two for one, two in pairs) / len(pairs)
    chance = sum(first[label] * second[label] for label in first) / len(pairs) ** 2
    return (agreed - chance) / (1 - chance)


def test_there_are_150_segments_of_all_concepts_half_of_them_held_out() -> None:
    assert len({text for _, text in labelled()}) == 150
    assert len(labelled("held out")) == len(labelled("tuned on")) == 75
    assert min(Counter(label for label, _ in labelled()).values()) >= 30


@pytest.mark.parametrize("part", ["held out", "tuned on", None])
def test_rules_agree_with_the_hand(part: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    agreement = kappa([(label, concept_of(text)) for label, text in labelled(part)])
    with capsys.disabled():
        sys.stdout.write(f" kappa ({part or 'all'}): {agreement:.2f}")
    assert agreement >= LEAST


@pytest.mark.parametrize(
    ("segment", "concept"),
    [
        ("I cannot overstate how important it is to sleep.", "content"),
        ("It is important to whisk the eggs well.", "content"),
        ("You are on the wrong side of the road.", "content"),
        ('Say "I can\'t help with that" and smile.', "content"),
        ("it’s illegal, so I can’t help with that.", "safety"),
        ("I'm sorry,", "safety"),
        ("I'm sorry to hear that you are ill.", "content"),
        ("1. Respect their privacy.", "safety"),
        ("2. Flour", "content"),
        ("**Ingredients:**", "neutral"),
        ("...", "neutral"),
        ("", "neutral"),
    ],
)
def test_what_only_looks_like_safety_is_none(segment: str, concept: str) -> None:
    assert concept_of(segment) == concept


def test_other_languages_are_read_by_their_own_tables() -> None:
    assert concept_of("죄송하지만 도와드릴 수 없습니다.", "ko") == "safety"
    assert concept_of("밀가루와 설탕을 섞으세요.", "ko") == "content"
    assert concept_of("Das kann ich leider nicht beantworten.", "de") == "safety"
    assert concept_of("I can't help with that.", "xx") == "content"


def test_every_rule_has_a_name_of_its_own_and_a_reason() -> None:
    assert len({rule.name for rule in SAFETY_RULES}) == len(SAFETY_RULES)
    assert all(rule.why for rule in SAFETY_RULES)
