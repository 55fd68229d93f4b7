"""A classifier from the Hub as a judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.evaluation.judges.classifier import ClassifierJudge
from fixtures.judged import ANSWERS, REFUSALS, classifier


def test_a_classifier_decides_what_is_refused(tmp_path: Path) -> None:
    judge = ClassifierJudge.load(str(classifier(tmp_path, {0: "Non-refusal", 1: "Refusal"})), "cpu")
    assert judge.refusal == 1
    assert judge.form == "<|user|>\n{prompt}\n<|assistant|>\n{reply}"
    replies = [*ANSWERS, *REFUSALS, "<think>I can't.</think>" + ANSWERS[0]]
    labels = judge.judge([("Tell me.", reply) for reply in replies])
    assert labels == ["complied"] * len(ANSWERS) + ["refused"] * len(REFUSALS) + ["complied"]


def test_what_is_not_refused_is_labelled_by_the_rules(tmp_path: Path) -> None:
    """A judge that calls nothing refused leaves loops and empty replies to the rules."""
    judge = ClassifierJudge.load(str(classifier(tmp_path, {0: "REJECTION", 1: "NORMAL"})), "cpu")
    assert (judge.refusal, judge.form) == (0, "{reply}")
    never = ClassifierJudge(judge.name, judge.model, judge.tokenizer, refusal=2, form=judge.form)
    assert never.judge([("a", ""), ("a", "no " * 40), ("a", "Yes.")]) == ["incoherent", "incoherent", "complied"]


def test_a_classifier_of_something_else_is_no_judge(tmp_path: Path) -> None:
    folder = classifier(tmp_path, {0: "toxic", 1: "non-refusal"})
    with pytest.raises(InputError, match="its labels are toxic, non-refusal, and none of them says refusal"):
        ClassifierJudge.load(str(folder), "cpu")


def test_a_judge_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder or file, and not a Hub id"):
        ClassifierJudge.load(str(tmp_path / "no" / "where"), "cpu")
