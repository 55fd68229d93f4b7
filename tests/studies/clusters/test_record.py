"""The record of a study of clusters."""

from __future__ import annotations

import json
from pathlib import Path

from abliterate.studies.clusters.record import controls_of, results_of, settings_of
from abliterate.studies.clusters.run import Clusters, vectors_to_save
from abliterate.studies.clusters.verdicts import verdicts_of
from abliterate.studies.record import StudyRecord, read_study, write_study


def test_a_study_is_written_and_read_back(three: Clusters, tmp_path: Path) -> None:
    record = StudyRecord(
        "clusters", "toy", None, "float32", {"forms": "a", "phrases": "b"}, 0, settings_of(three), results_of(three),
        controls_of(three), verdicts_of(three), three.notes,
    )  # fmt: skip
    path = write_study(tmp_path, record, vectors_to_save(three), [])
    assert read_study(path).to_json() == json.loads(path.read_text())


def test_figures_are_those_of_the_study(three: Clusters) -> None:
    results, controls = results_of(three), controls_of(three)
    assert results["clusters"]["k"] == 3
    assert [one["size"] for one in results["clusters"]["members"]] == list(three.clustering.partition.sizes)
    assert [one["words"] for one in results["clusters"]["members"]] == [None] * 3, (
        "the toy's phrases have hardly a word"
    )
    assert results["directions"]["crossed"]["total"] == 48
    assert len(results["plane"]["points"]) == len(results["plane"]["phrases"]) == len(three.clustering.own)
    assert len(controls["splits"]) == 5
    assert len(controls["random"]) == 5
    assert len(controls["nulls"]) == len(three.clustering.choice.spreads)
