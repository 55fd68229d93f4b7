"""The verb that applies a recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from abliterate.chat.sides import open_sides
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.commands.apply import apply
from abliterate.commands.export import export
from abliterate.commands.verify import verify
from abliterate.edits.tensor_edits import UnquantizedEdit
from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import Result
from abliterate.report.load import gather
from abliterate.report.sections.strengths import by_layer, strengths_line
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
        apply(given, directions, None, rows=["open/2/resid.3"])
    with pytest.raises(InputError, match="leave --recipe and --layer away"):
        apply(replace(given, layer=3), directions, None, rows=["open/1/resid.3"])
    applied = apply(given, directions, None, rows=["open/1/resid.3"])
    assert applied.proof.holds
    assert Recipe.load(tmp_path / "edited" / "recipe.json").direction == "open/1/resid.3"
    assert verify(given.model, given.out, given).holds


ROWS = ("resid.4", "resid.6", "resid.5")


def test_the_span_of_several_rows_is_removed_in_whatever_order(result: Result, tmp_path: Path) -> None:
    directions = result.out / "directions.safetensors"
    given = options(tmp_path / "edited", dtype="float32")
    applied = apply(given, directions, None, rows=ROWS)
    assert (applied.proof.kind, applied.proof.holds) == ("silence", True)
    recipe = Recipe.load(given.out / "recipe.json")
    assert recipe.names == ROWS
    assert verify(given.model, given.out, given).holds
    turned = replace(given, out=tmp_path / "turned")
    apply(turned, directions, None, rows=ROWS[::-1])
    one, other = (Checkpoint.open(out) for out in (given.out, turned.out))
    for name in one.tensors:
        assert torch.allclose(one.read(name).float(), other.read(name).float(), atol=2e-3), name
    card = (given.out / "README.md").read_text()
    assert "along 3 directions" in card
    assert "- Directions: `resid.4`, `resid.6`, `resid.5`" in card


def test_each_direction_has_its_own_strengths(result: Result, tmp_path: Path) -> None:
    recipe = Recipe(
        ({"embed": 1.0, "attn": 1.0, "mlp": 1.0}, {"mlp": (0.5,) * 8, "attn": 0.25}), ("resid.4", "resid.6")
    )
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    given = options(tmp_path / "edited", dtype="float32")
    applied = apply(given, result.out / "directions.safetensors", tmp_path / "recipe.json")
    assert (applied.proof.kind, applied.proof.holds) == ("agreement", True)
    assert verify(given.model, given.out, given).holds
    assert "- Strength of `resid.6` at `mlp`: 0.5 to 0.5 over the layers" in (given.out / "README.md").read_text()
    page = gather(given.out)
    assert by_layer(page)["attn 2"] == [0.25] * 8
    assert strengths_line(page) == "0.25 to 1.00, by layer, at embed, attn, mlp"
    with pytest.raises(InputError, match="takes 2 directions out of the weights, and a control vector adds one"):
        export(ExportOptions(given.out, "control-vector"), replace(given, out=tmp_path / "vector.gguf"))
    again = export(ExportOptions(given.out, "adapter"), replace(given, out=tmp_path / "adapter"))
    assert again.proof is not None
    assert again.proof.holds


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("resid.4", "resid.4"), "the 2 directions are linearly dependent; give fewer"),
        (("resid.4", "resid.44"), r"--row resid\.44: .* has none of that name"),
    ],
)
def test_rows_that_are_no_basis_are_refused(
    result: Result, tmp_path: Path, rows: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        apply(options(tmp_path / "edited"), result.out / "directions.safetensors", None, rows=rows)
    assert not (tmp_path / "edited").exists()


@pytest.mark.slow
def test_a_quantised_model_loses_a_span_and_keeps_its_format(tmp_path: Path) -> None:
    source = quantise_checkpoint(random_checkpoint("llama", tmp_path / "source"), "fp8 block")
    rows = torch.randn(2, 128, generator=torch.Generator().manual_seed(5))
    save_file({"a": rows[0].contiguous(), "b": rows[1].contiguous()}, tmp_path / "directions.safetensors")
    recipe = Recipe(({"attn": 1.0, "mlp": 1.0}, {"attn": 0.5, "mlp": 0.75}), ("a", "b"))
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    given = Options(str(source), tmp_path / "out", device="cpu", dtype="fp32")
    applied = apply(given, tmp_path / "directions.safetensors", tmp_path / "recipe.json")
    assert applied.proof.holds
    assert verify(str(source), given.out, given).holds
    assert {entry.dtype for entry in Checkpoint.open(given.out).tensors.values()} == {
        entry.dtype for entry in Checkpoint.open(source).tensors.values()
    }


def test_lengths_of_columns_are_kept_and_the_stream_is_silent(result: Result, tmp_path: Path) -> None:
    directions = result.out / "directions.safetensors"
    given = options(tmp_path / "edited", edit_form="columns")
    applied = apply(given, directions, None, rows=["resid.4"])
    assert (applied.proof.kind, applied.proof.holds) == ("silence", True)
    assert verify(given.model, given.out, given).holds
    for one in applied.tensors:
        assert one.norm_after == pytest.approx(one.norm_before, rel=1e-3)
    assert "keeps its length" in (given.out / "README.md").read_text()
    assert strengths_line(gather(given.out)).endswith("lengths of columns kept")
    with pytest.raises(InputError, match="an adapter holds projections only"):
        export(ExportOptions(given.out, "adapter"), replace(given, out=tmp_path / "adapter"))
    with pytest.raises(InputError, match="--recipe says which form the edit has"):
        apply(replace(given, out=tmp_path / "other"), directions, given.out / "recipe.json")
    sides = open_sides(Options(str(given.out), Path(), device="cpu"), given.model)
    assert sides.note.endswith("is edited in the form columns, which hooks cannot be")


def test_lengths_of_quantised_columns_are_refused(tmp_path: Path) -> None:
    source = quantise_checkpoint(random_checkpoint("llama", tmp_path / "source"), "fp8 block")
    save_direction(tmp_path / "directions.safetensors")
    given = Options(str(source), tmp_path / "out", device="cpu", edit_form="columns")
    with pytest.raises(InputError, match="is quantised, and keeping lengths is for plain weights"):
        apply(given, tmp_path / "directions.safetensors", None)
