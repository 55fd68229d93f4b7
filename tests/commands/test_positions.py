"""The study as a command: what it refuses before weights are loaded, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from abliterate.commands.positions import directions_against, positions
from abliterate.errors import InputError
from abliterate.pipeline.study_options import StudyOptions
from abliterate.studies.positions.options import PositionsOptions
from fixtures.tiny_chat import TINY


def test_directions_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "directions.safetensors"
    save_file({"resid.3": torch.ones(7)}, path)
    assert directions_against(None, 160) == {}
    assert list(directions_against(path, 7)) == [3]
    with pytest.raises(InputError, match="7 wide, and the model is 160"):
        directions_against(path, 160)
    save_file({"other": torch.ones(7)}, path)
    with pytest.raises(InputError, match=r"holds no resid\.N"):
        directions_against(path, 160)


def test_a_layer_is_checked_before_anything_is_asked(cache: Path) -> None:
    options = StudyOptions(str(TINY), phrases="builtin:phrases-tiny", quick=True, device="cpu")
    with pytest.raises(InputError, match="--layer 99 is out of range"):
        positions(options, PositionsOptions(layer=99))


@pytest.mark.slow
def test_a_quick_study_leaves_its_record_and_nothing_in_the_cache(tmp_path: Path, cache: Path) -> None:
    options = StudyOptions(
        str(TINY), phrases="builtin:phrases-tiny", quick=True, samples=1, out=tmp_path / "out", device="cpu"
    )
    one = positions(options, PositionsOptions(reply_tokens=16))
    assert one.path == tmp_path / "out" / "positions.json"
    held = json.loads(one.path.read_text())
    assert held["notes"][0] == "quick: no verdicts"
    assert {verdict["verdict"] for verdict in held["verdicts"]} == {"quick: no verdicts"}
    rows = load_file(tmp_path / "out" / "positions.safetensors")
    assert rows["question/1-harm/resid.4"].shape == (160,)
    assert not list((cache / "studies").iterdir())
    again = positions(options, PositionsOptions(reply_tokens=16))
    assert json.loads(again.path.read_text()) == held  # type: ignore[union-attr]
