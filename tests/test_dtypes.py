"""The words for a dtype: one table, which every flag reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import abliterate
from abliterate import cli
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.commands.apply import apply
from abliterate.commands.verify import verify
from abliterate.edits.tensor_edits import UnquantizedEdit
from abliterate.errors import InputError
from abliterate.models.loading import DTYPE_WORDS, choose_dtype, dtype_name
from abliterate.models.source import resolve
from abliterate.pipeline.options import Options
from fixtures.quantized_models import quantise_checkpoint, random_checkpoint, save_direction

TINY = Path(abliterate.__file__).parent / "data" / "tiny-chat"

KNOWN = "auto, bfloat16, bf16, float16, fp16, half, float32, fp32"


@pytest.mark.parametrize("word", DTYPE_WORDS)
def test_every_word_names_what_torch_calls_so(word: str) -> None:
    assert getattr(torch, dtype_name("--dtype", word)) == DTYPE_WORDS[word] == choose_dtype(resolve(str(TINY)), word)


@pytest.mark.parametrize("flag", ["--dtype", "--edited-dtype"])
@pytest.mark.parametrize("word", ["int3", "", "torch.float16", "BF16"])
def test_an_unknown_word_lists_those_that_are_known(flag: str, word: str) -> None:
    with pytest.raises(InputError) as said:
        dtype_name(flag, word)
    assert str(said.value) == f"{flag} {word}: unknown; choose {KNOWN}"


@pytest.mark.parametrize(
    "words",
    [
        [str(TINY), "--dtype", "int3"],
        [str(TINY), "--edited-dtype", "int3"],
        ["apply", str(TINY), "--directions", "x", "--dtype", "int3"],
        ["apply", str(TINY), "--directions", "x", "--edited-dtype", "int3"],
        ["verify", str(TINY), str(TINY), "--dtype", "int3"],
        ["evaluate", str(TINY), "--dtype", "int3"],
        ["compare", str(TINY), str(TINY), "--dtype", "int3"],
        ["export", str(TINY), "--to", "adapter", "--out", "x", "--dtype", "int3"],
        ["chat", str(TINY), "--dtype", "int3"],
        ["heal", str(TINY), "--dataset", "x", "--out", "x", "--dtype", "int3"],
    ],
    ids=" ".join,
)
def test_every_verb_refuses_an_unknown_word_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"abliterate: {words[-2]} int3: unknown; choose {KNOWN}\n"


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
