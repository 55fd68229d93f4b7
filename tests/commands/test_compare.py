"""The verb that compares: every edit against the one original, in the order in which they are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from abliterate.commands import compare as module
from abliterate.commands.compare import compare
from abliterate.evaluation.evaluation import Evaluation
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.options import Options


def test_the_model_is_what_all_are_held_against(monkeypatch: pytest.MonkeyPatch, evaluation: Evaluation) -> None:
    asked: list[Any] = []

    def evaluate_each(options: Any, evaluate_options: Any, edits: Any, against: Any, *others: Any) -> Any:
        asked.append((list(edits), against))
        return (evaluation for _ in edits)

    monkeypatch.setattr(module, "evaluate_each", evaluate_each)
    assert compare(Options("original", Path()), EvaluateOptions(), ["one", "two"]) == [evaluation, evaluation]
    assert asked == [(["one", "two"], "original")]
