"""The verb that applies a recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.commands.apply import apply
from abliterate.commands.verify import verify
from abliterate.edits.tensor_edits import UnquantizedEdit
from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import Result
from abliterate.studies.record import StudyRecord, write_study
from fixtures.quantized_models import quantise_checkpoint, random_checkpoint, save_direction
from fixtures.tiny_chat import hashes, options


@pytest.mark.parametrize(("word", "name", "stored"), [("half", "float16", "F16"), ("fp32", "float32", "F32")])
def test_edited_weights_are_written_in_the_dtype_that_is_named(
    word: str, name: str, stored: str, tmp_path: Path
) -> None:
    source, out = quantise_checkpoint(random_checkpoint("llama", tmp_path / "source"), "fp8 block"), tmp_path / "out"
    save_direction(tmp_path / "directions.safetensors")
    options = Options(str(source), out, device="cpu", dtype="fp32", edited_dtype=word)
    applied = apply(options, tmp_path / "directions.safetensors", None)
    before, after = Checkpoint.open(source), Checkpoint.open(out)
    left = {one for one in after.tensors if before.tensors[one].dtype.startswith("F8") != after.tensors[one].dtype.startswith("F8")}  # fmt: skip
    assert left
    assert {after.tensors[one].dtype for one in left} == {stored}
    assert json.loads((out / "abliterate.json").read_text())["edited_dtype"] == name
    assert applied.proof.holds
    assert verify(str(source), out, Options(str(source), Path(), device="cpu", dtype="fp32")).holds


def test_auto_keeps_the_format_as_without(tmp_path: Path) -> None:
    source = quantise_checkpoint(random_checkpoint("llama", tmp_path / "source"), "fp8 block")
    save_direction(tmp_path / "directions.safetensors")
    for out, word in ((tmp_path / "auto", "auto"), (tmp_path / "none", None)):
        apply(Options(str(source), out, device="cpu", edited_dtype=word), tmp_path / "directions.safetensors", None)
    for path in (tmp_path / "auto").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "none" / path.name).read_bytes()


def test_numbers_beyond_the_dtype_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = quantise_checkpoint(random_checkpoint("llama", tmp_path / "source"), "fp8 block")
    save_direction(tmp_path / "directions.safetensors")
    monkeypatch.setattr(UnquantizedEdit, "apply", lambda self, weight: weight * 1e9)
    options = Options(str(source), tmp_path / "out", device="cpu", edited_dtype="fp16")
    with pytest.raises(InputError, match=r"holds numbers beyond torch.float16; pass --edited-dtype bfloat16"):
        apply(options, tmp_path / "directions.safetensors", None)
    assert not (tmp_path / "out").exists()


def test_apply_repeats_the_edit_from_its_files(result: Result, tmp_path: Path) -> None:
    given = options(tmp_path / "again")
    applied = apply(given, result.out / "directions.safetensors", result.out / "recipe.json")
    assert hashes(applied.out)["model.safetensors"] == hashes(result.out)["model.safetensors"]
    assert applied.untouched == 74 - 17
    by_layer = replace(given, out=tmp_path / "by-layer", layer=result.manifest["direction"]["layer"])
    apply(by_layer, result.out / "directions.safetensors", None)
    assert hashes(by_layer.out)["model.safetensors"] == hashes(result.out)["model.safetensors"]


def test_apply_needs_to_know_which_direction(result: Result, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose one with --layer"):
        apply(options(tmp_path / "again"), result.out / "directions.safetensors", None)


def test_a_vector_of_a_study_is_applied_by_its_name(tmp_path: Path) -> None:
    rows = {f"open/{place}/resid.{layer}": torch.randn(160) for place in ("1", "1-harm") for layer in (3, 4)}
    record = StudyRecord("positions", "tiny", None, "float32", {}, 0)
    write_study(tmp_path, record, rows)
    given, directions = options(tmp_path / "edited"), tmp_path / "positions.safetensors"
    with pytest.raises(
        InputError, match=r"^--row open/2/resid\.3: .* has none of that name; it has open/1-harm/resid\.3, open"
    ):
        apply(given, directions, None, row="open/2/resid.3")
    with pytest.raises(InputError, match="leave --recipe and --layer away"):
        apply(replace(given, layer=3), directions, None, row="open/1/resid.3")
    applied = apply(given, directions, None, row="open/1/resid.3")
    assert applied.proof.holds
    assert Recipe.load(tmp_path / "edited" / "recipe.json").direction == "open/1/resid.3"
    assert verify(given.model, given.out, given).holds
