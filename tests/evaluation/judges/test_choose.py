"""The table of judges: who is chosen by which options, and one that is added decides an evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from abliterate.cli import main
from abliterate.errors import InputError
from abliterate.evaluation.judges.choose import JUDGES, JudgeOptions, choose_judge
from abliterate.evaluation.judges.classifier import ClassifierJudge
from abliterate.evaluation.judges.judge import Judge, RuleJudge
from abliterate.evaluation.judges.served import EndpointJudge
from abliterate.progress import SILENT, Progress
from abliterate.replies.labels import Label
from fixtures.tiny_chat import TINY


@dataclass(frozen=True)
class LengthJudge:
    """A judge that the package does not have: a long reply is hedged."""

    name: str = "length"

    def judge(self, pairs: Sequence[tuple[str, str]], progress: Progress = SILENT) -> list[Label]:
        return ["hedged" if len(reply) > 20 else "complied" for _, reply in pairs]


def test_the_rules_judge_where_nobody_else_is_asked_for() -> None:
    for options in (JudgeOptions(), JudgeOptions("rules"), JudgeOptions("")):
        assert choose_judge(options) == RuleJudge()


def test_an_address_asks_for_the_served_judge() -> None:
    judge = choose_judge(JudgeOptions(endpoint="http://localhost:1/v1", served_model="large", concurrency=3))
    assert isinstance(judge, EndpointJudge)
    assert (judge.name, judge.concurrency) == ("served large", 3)
    with pytest.raises(InputError, match="--judge served: say where it is with --judge-endpoint"):
        choose_judge(JudgeOptions("served"))


def test_any_other_word_is_a_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, bool]] = []

    def load(name: str, device: str, offline: bool) -> Judge:
        asked.append((name, device, offline))
        return RuleJudge()

    monkeypatch.setattr(ClassifierJudge, "load", load)
    choose_judge(JudgeOptions("org/classifier", device="cpu", offline=True))
    assert asked == [("org/classifier", "cpu", True)]


def test_a_judge_that_is_added_decides_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(JUDGES, "length", lambda options: LengthJudge())
    words = ["--judge", "length", "--n-prompts", "8", "--reply-tokens", "16", "--device", "cpu", "--dtype", "float32"]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["evaluate", str(TINY), *words, "--out", str(tmp_path / "evaluation.json")])
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert record["settings"]["judge"] == "length"
    labels = {(len(one["reply"]) > 20, one["label"]) for side in record["replies"]["model"].values() for one in side}
    assert labels <= {(True, "hedged"), (False, "complied")}
    assert labels
