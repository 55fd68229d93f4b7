"""A judge as third labeller: each segment as a reply of its own, beside rules and examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from abliterate.progress import SILENT, Progress
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import Phrase
from abliterate.prompts.texts import Text
from abliterate.replies.labels import Label
from abliterate.studies.phases.examples import ByExamples
from abliterate.studies.phases.judged import by_judge
from abliterate.studies.phases.told import Told
from abliterate.studies.replies import Unit
from fixtures.labelled_segments import BAKE, FLOUR, STOP, reply


@dataclass
class Strict:
    """Calls refused what speaks of flour: where rules find safety is not where it does."""

    name: str = "a strict judge"
    asked: list[tuple[str, str]] = field(default_factory=list)

    def judge(self, pairs: Sequence[tuple[str, str]], progress: Progress = SILENT) -> list[Label]:
        self.asked += pairs
        return ["refused" if "help" in said or "rest" in said else "complied" for _, said in pairs]


def told(texts: Sequence[str]) -> Told:
    candidates = (Phrase("a", (f"do {number}",), f"be {number}") for number in range(9999))
    phrases = tuple(one for one in candidates if one.split == "report")[: len(texts)]
    unit = Unit(load_forms()["question"], "harmful", phrases, tuple(Text((5,), {}) for _ in texts))
    return Told(unit, tuple(map(reply, texts)), ((),) * len(texts))


def test_segments_are_labelled_by_what_the_judge_says_of_each() -> None:
    own, judge = told([f"{BAKE} {STOP}", STOP, f"{BAKE} {FLOUR}", ""]), Strict()
    found = by_judge(judge, [own])
    assert found is not None
    assert judge.asked[0] == (own.unit.phrases[0].harmful[0], BAKE)
    assert len(judge.asked) == 5, "the empty reply is not asked about"
    assert found.rules.segments == 5
    assert found.rules.table == (("content", "content", 2), ("content", "safety", 1), ("safety", "safety", 2))
    assert found.rules.kappa == pytest.approx(8 / 13)
    assert found.examples is None
    assert found.to_json()["name"] == "a strict judge"
    same = ByExamples(0.0, found.rules, (3, 3), tuple(one for one in own.greedy if not one.cut.incoherent))
    again = by_judge(Strict(), [own], same)
    assert again is not None
    assert again.examples == again.rules
    with pytest.raises(ValueError, match="argument 2 is longer"):
        by_judge(Strict(), [own], replace(same, replies=same.replies[:1]))


def test_without_a_reply_nobody_is_asked() -> None:
    judge = Strict()
    assert by_judge(judge, [told(["", ""])]) is None
    assert not judge.asked
