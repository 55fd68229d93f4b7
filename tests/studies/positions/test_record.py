"""The record of a study: every claim has a figure, a control and a verdict."""

from __future__ import annotations

import json
from pathlib import Path

from abliterate.studies.positions.record import (
    compared_forms,
    controls_of,
    results_of,
    settings_of,
    verdicts_of,
)
from abliterate.studies.positions.run import Positions, vectors_to_save
from abliterate.studies.record import StudyRecord, read_study, write_study


def test_a_study_is_written_and_read_back(small: Positions, tmp_path: Path) -> None:
    record = StudyRecord(
        "positions", "tiny", None, "float32", {"forms": "a", "phrases": "b"}, 0, settings_of(small), results_of(small),
        controls_of(small), verdicts_of(small), small.notes,
    )  # fmt: skip
    path = write_study(tmp_path, record, vectors_to_save(small), list(small.replies))
    assert read_study(path).to_json() == json.loads(path.read_text())
    assert {path.name for path in tmp_path.iterdir()} == {
        "positions.json", "positions.safetensors", "positions-replies.jsonl",
    }  # fmt: skip
    assert "I'm sorry" not in path.read_text(), "replies stay in their own file"


def test_figures_are_those_of_the_replies(small: Positions) -> None:
    results = results_of(small)
    (question, reply) = results["starts"]
    assert question["starts"]["1"]["count"] == 24
    assert sum(reply["starts"][name]["count"] for name in ("1", "2", "3", "never")) == 24
    assert question["harmless"]["total"] == 6
    assert compared_forms(small.heard) == [], "one form in each place that a phrase is put"
    assert {"edits", *(one["vector"] for one in results["sweeps"])} == set(controls_of(small))


def test_every_verdict_has_a_figure_and_a_control(small: Positions) -> None:
    verdicts = verdicts_of(small)
    assert any("carries over" in one.claim for one in verdicts)
    assert any("harmless prompts activate" in one.claim for one in verdicts)
    for one in verdicts:
        assert one.claim
        assert one.figure
        assert one.control
        assert one.verdict
