"""A classifier as the judge: a real one, trained here on the spot, and what is refused as a judge."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from abliterate.errors import InputError
from abliterate.evaluation.judges.classifier import ClassifierJudge
from abliterate.evaluation.judges.judge import RuleJudge
from fixtures.judged import ANSWERS, REFUSALS, classifier


def test_a_judge_without_a_head_would_judge_by_random_numbers(tmp_path: Path) -> None:
    """A base model loads as a classifier, with a head that nobody trained."""
    folder = classifier(tmp_path, {0: "Non-refusal", 1: "Refusal"})
    weights = load_file(folder / "model.safetensors")
    headless = {name: tensor for name, tensor in weights.items() if not name.startswith("score")}
    assert len(headless) == len(weights) - 1
    save_file(headless, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        InputError, match=r"1 tensors that it needs are missing from its weights \(for one: score.weight"
    ):
        ClassifierJudge.load(str(folder), "cpu")


def test_the_rules_judge_by_the_rules() -> None:
    assert RuleJudge().judge([("a", REFUSALS[0]), ("a", ANSWERS[0])]) == ["refused", "complied"]
