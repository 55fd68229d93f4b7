"""The record of a study: read back as it was written, to the same bytes, and whole."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from abliterate.directions.files import load_differences, load_direction, read_directions
from abliterate.errors import InputError
from abliterate.evaluation.statistics import Rate
from abliterate.storage.names import LOCAL, STUDIES
from abliterate.studies.common import Cosine, Verdict
from abliterate.studies.record import StudyRecord, plain, read_study, write_study

RECORD = StudyRecord(
    "positions", "some/model", None, "float32", {"forms": "ab", "phrases": "cd"}, 3, {"layers": [4]}, {"rate": 0.5},
    {"random": [0.1, 0.2]}, (Verdict("a claim", "a figure", "a control", "same", "So it is."),), ("quick: no verdicts",),
)  # fmt: skip
VECTORS = {
    f"{form}/prompt_end/resid.{layer}": torch.randn(8, generator=torch.Generator().manual_seed(layer)) * 3
    for form in ("question", "open")
    for layer in (4, 2)
}


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = write_study(tmp_path / "out", RECORD)
    assert path == tmp_path / "out" / "positions.json"
    assert read_study(path) == RECORD
    assert [one.name for one in path.parent.iterdir()] == ["positions.json"]


def test_figures_are_written_as_they_say_and_what_is_not_finite_as_null(tmp_path: Path) -> None:
    cosine = Cosine(0.5, 0.4, 0.6, 0.3, 0.0, "not decidable")
    path = write_study(tmp_path, replace(RECORD, results={"rate": Rate(1, 2), 4: (math.nan, cosine), "none": None}))
    results = read_study(path).results
    assert results["rate"]["count"] == 1
    assert results["4"][0] is None
    assert results["4"][1]["disattenuated"]["value"] is None
    assert "NaN" not in path.read_text()
    with pytest.raises(TypeError, match="a record cannot hold a set"):
        plain({"a": {1}})


def test_vectors_are_directions_that_every_verb_can_read(tmp_path: Path) -> None:
    write_study(tmp_path, RECORD, VECTORS)
    rows, about = read_directions(tmp_path / "positions.safetensors")
    assert set(rows) == set(VECTORS)
    assert about["model"] == "some/model"
    assert about["digests"] == RECORD.digests
    for name, vector in VECTORS.items():
        assert torch.allclose(load_direction(tmp_path / "positions.safetensors", name), vector / vector.norm())
        assert about["lengths"][name] == pytest.approx(float(vector.norm()))
    assert load_differences(tmp_path / "positions.safetensors") == {}  # of no form: those of a run
    found = load_differences(tmp_path / "positions.safetensors", "open/prompt_end/resid.2")
    assert sorted(found) == [2, 4]
    assert all(torch.allclose(one, VECTORS[f"open/prompt_end/resid.{layer}"]) for layer, one in found.items())


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    replies = [{"form": "open", "reply": "그래요 😀", "tokens": (1, 2)}]
    for name, vectors in (("a", VECTORS), ("b", dict(reversed(VECTORS.items())))):
        write_study(tmp_path / name, RECORD, vectors, replies)
    names = sorted(one.name for one in (tmp_path / "a").iterdir())
    assert names == ["positions-replies.jsonl", "positions.json", "positions.safetensors"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    (line,) = (tmp_path / "a" / "positions-replies.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {"form": "open", "reply": "그래요 😀", "tokens": [1, 2]}


def test_replies_stay_on_this_machine() -> None:
    assert {f"{study}{end}" for study in STUDIES for end in ("-replies.jsonl", ".json")} <= set(LOCAL)


@pytest.mark.parametrize(
    ("name", "vector", "message"),
    [
        ("question/resid.4", torch.ones(4), "is called question/resid.4; expected form/place/resid.N"),
        ("a/b/resid.4", torch.zeros(4), "the vector a/b/resid.4 has no direction: its length is 0.0"),
        ("a/b/resid.4", torch.full((4,), math.nan), "has no direction: its length is nan"),
    ],
)
def test_what_is_no_vector_is_one_line_and_nothing_is_written(
    tmp_path: Path, name: str, vector: torch.Tensor, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_study(tmp_path / "out", RECORD, {name: vector})
    assert not (tmp_path / "out").exists()


def test_what_is_no_record_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weather: no such study; there are positions, phases"):
        replace(RECORD, study="weather")
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        read_study(tmp_path / "none.json")
    path = write_study(tmp_path, RECORD)
    held = json.loads(path.read_text())
    for changed, message in (
        ({**held, "format": 2}, "has the format 2, and this version reads 1"),
        ({**held, "seed": "three"}, "seed should be a whole number, not text"),
        ({**held, "verdicts": [{"claim": "so"}]}, r"verdicts\[0\]\.figure is missing"),
        ([], "the file should be an object"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=message):
            read_study(path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .*choose another place with --out"):
        write_study(tmp_path / "file", RECORD)
