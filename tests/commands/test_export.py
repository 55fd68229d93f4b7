"""An edit in its other forms, by the command: proved, complete, and of the right original."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM

from abliterate.cli import main
from abliterate.commands.apply import apply
from abliterate.commands.evaluate import evaluate
from abliterate.commands.export import export
from abliterate.commands.reproduce import reproduce
from abliterate.commands.verify import verify
from abliterate.errors import InputError
from abliterate.exports.forms import EXPORT_FORMS, ExportForm
from abliterate.hub.push import finished_files
from abliterate.pipeline.evaluate_options import HARMFUL, EvaluateOptions
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.reproduce_options import ReproduceOptions
from abliterate.pipeline.run import Result, run
from abliterate.report.page import write_report
from abliterate.studies.record import StudyRecord, write_study
from fixtures.tiny_chat import TINY, in_float32


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(in_float32(tmp_path_factory.mktemp("run") / "edited"))


@pytest.mark.slow
def test_an_edit_by_a_vector_of_a_study_goes_through_every_verb(tmp_path: Path) -> None:
    given = in_float32(tmp_path / "edited")
    rows = {f"question/1/resid.{layer}": torch.randn(160) * layer for layer in (3, 4)}
    write_study(tmp_path, StudyRecord("positions", "tiny", None, "float32", {}, 0), rows)
    apply(given, tmp_path / "positions.safetensors", None, row="question/1/resid.4")
    manifest = json.loads((given.out / "abliterate.json").read_text())
    assert manifest["direction"] == {"name": "question/1/resid.4", "method": None, "layer": 4, "position": None}
    assert verify(str(TINY), given.out, given).holds
    for kind in ("adapter", "gguf-adapter", "control-vector"):
        leave = ("embed",) if kind == "gguf-adapter" else ()
        export(ExportOptions(given.out, kind, leave), replace(given, out=tmp_path / kind))
    (vector,) = GGUFReader(tmp_path / "control-vector").tensors
    assert vector.name == "direction.3"
    assert torch.allclose(torch.tensor(vector.data), rows["question/1/resid.4"], atol=1e-5)
    few = EvaluateOptions(n_prompts=8, reply_tokens=8)
    measured = evaluate(replace(given, model=str(given.out)), few, str(TINY))
    assert measured.model.refusals(HARMFUL).total == 8
    assert "question/1/resid.4" in write_report(given.out).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(in_float32(tmp_path_factory.mktemp("run") / "half", layer=4, strength=0.5))


def test_an_adapter_is_proved_and_does_what_the_checkpoint_does(edited: Result, half: Result, tmp_path: Path) -> None:
    for name, result, kind in (("whole", edited, "silence"), ("half", half, "agreement")):
        one = export(ExportOptions(result.out, "adapter"), in_float32(tmp_path / name))
        assert one.proof is not None
        assert one.proof.kind == kind
        assert one.proof.holds
    evaluate_options = EvaluateOptions(reply_tokens=24, n_prompts=20)
    adapter = evaluate(in_float32(Path(), model=str(tmp_path / "whole")), evaluate_options, str(TINY))
    checkpoint = evaluate(in_float32(Path(), model=str(edited.out)), evaluate_options, str(TINY))
    assert adapter.model.refusals(HARMFUL) == checkpoint.model.refusals(HARMFUL)
    assert adapter.model.refusals(HARMFUL).count == 0


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_peft_finds_the_model_of_an_adapter_by_itself(edited: Result, tmp_path: Path) -> None:
    """Of a folder by its path, where that was asked for; of a folder of the Hub's cache by its name on the Hub."""
    from peft import AutoPeftModelForCausalLM

    kept = export(ExportOptions(edited.out, "adapter"), in_float32(tmp_path / "kept", keep_paths=True))
    adapted = AutoPeftModelForCausalLM.from_pretrained(str(kept.out), dtype=torch.float32)
    written, original = (AutoModelForCausalLM.from_pretrained(one, dtype=torch.float32) for one in (edited.out, TINY))
    tokens = torch.arange(1, 9)[None]
    with torch.no_grad():
        found, expected, before = (model(tokens).logits for model in (adapted, written, original))
    # The checkpoint is rounded to bfloat16, the adapter is not.
    assert (found - expected).norm() < 0.01 * expected.norm() < 0.2 * (before - expected).norm()
    records = "".join((kept.out / name).read_text() for name in ("abliterate.json", "README.md", "recipe.json"))
    assert str(TINY) not in records

    cached = tmp_path / "hub" / "models--org--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(TINY, cached)
    found = export(ExportOptions(edited.out, "adapter"), in_float32(tmp_path / "found", model=str(cached)))
    config = json.loads((found.out / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/tiny", "0" * 40)


@pytest.mark.slow
def test_an_adapter_has_its_records(edited: Result, tmp_path: Path) -> None:
    one = export(ExportOptions(edited.out, "adapter"), in_float32(tmp_path / "adapter"))
    assert set(finished_files(one.out)) == {
        "README.md", "abliterate.json", "adapter_config.json", "adapter_model.safetensors", "directions.safetensors",
        "harmful.txt", "harmless.txt", "recipe.json",
    }  # fmt: skip
    for name in ("harmful.txt", "harmless.txt"):  # the run's own lists: what a later `evaluate` puts to the adapter
        assert (one.out / name).read_bytes() == (edited.out / name).read_bytes()
    manifest = json.loads((one.out / "abliterate.json").read_text())
    assert manifest["form"] == "adapter"
    assert "gives the original back" in manifest["undo"]
    assert manifest["source"] == edited.manifest["source"]
    assert manifest["recipe"] == edited.manifest["recipe"]
    assert json.loads((one.out / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-chat"
    text = "".join(path.read_text() for path in one.out.iterdir() if path.suffix in (".json", ".md"))
    assert str(TINY.parent) not in text
    assert str(tmp_path) not in text
    assert {path.stat().st_mode & 0o777 for path in one.out.iterdir()} == {0o644}
    again = export(
        ExportOptions(one.out / "recipe.json", "adapter"), in_float32(tmp_path / "again")
    )  # from its own records
    assert (again.out / "adapter_model.safetensors").read_bytes() == (
        one.out / "adapter_model.safetensors"
    ).read_bytes()


def test_forms_for_llama_cpp(edited: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(edited.out), "--model", str(TINY), "--json"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--to", "gguf-adapter", "--leave-out", "embed", "--out", str(tmp_path / "a.gguf")])
    assert stop.value.code == 0
    written = json.loads(capsys.readouterr().out)
    assert written["notes"] == ["left out: model.embed_tokens.weight"]
    assert written["bytes"] == (tmp_path / "a.gguf").stat().st_size
    assert len(GGUFReader(tmp_path / "a.gguf").tensors) == 2 * 16
    with pytest.raises(SystemExit) as stop:
        main([*words, "--to", "control-vector", "--out", str(tmp_path / "v.gguf")])
    assert stop.value.code == 0
    layer = edited.manifest["direction"]["layer"]
    assert [tensor.name for tensor in GGUFReader(tmp_path / "v.gguf").tensors] == [f"direction.{layer - 1}"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--to", "control-vector", "--layer", "2,3", "--out", str(tmp_path / "w.gguf")])
    assert stop.value.code == 0
    assert [tensor.name for tensor in GGUFReader(tmp_path / "w.gguf").tensors] == ["direction.1", "direction.2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "gguf"], "--to gguf: choose among adapter, gguf-adapter, control-vector"),
        (["--to", "gguf-adapter", "--leave-out", "head"], "--leave-out head: choose among embed, attn, mlp"),
        (["--to", "control-vector", "--layer", "x"], "--layer x: give whole numbers by commas"),
        (["--to", "adapter"], "the original tiny-chat is not on the Hub; say where it is with --model"),
        (["--to", "gguf-adapter", "--model", str(TINY)], "leave out the site embed"),
    ],
)
def test_bad_input_is_one_line(
    edited: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export", str(edited.out), *words, "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_original_is_refused(edited: Result, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was not made from"):
        export(ExportOptions(edited.out, "adapter"), in_float32(tmp_path / "adapter", model=str(edited.out)))
    with pytest.raises(InputError, match="the recipe cannot be read"):
        export(ExportOptions(TINY, "adapter"), in_float32(tmp_path / "adapter"))


@pytest.mark.slow
def test_a_run_can_save_an_adapter_alone(edited: Result, tmp_path: Path) -> None:
    """The same direction and recipe, proved and measured with the adapter on the original; no weights are written."""
    one = run(in_float32(tmp_path / "adapter", save=("adapter",)))
    assert one.manifest["form"] == "adapter"
    assert one.manifest["tensors"] == []
    assert one.manifest["recipe"] == edited.manifest["recipe"]
    assert one.manifest["figures"]["edited"] == edited.manifest["figures"]["edited"]
    assert one.measured.proof.kind == "silence"
    assert one.measured.proof.holds
    names = {path.name for path in one.out.iterdir()}
    assert names == {
        "README.md", "abliterate.json", "adapter_config.json", "adapter_model.safetensors", "directions.safetensors",
        "observations.json", "recipe.json",
    }  # fmt: skip
    exported = export(ExportOptions(edited.out, "adapter"), in_float32(tmp_path / "exported"))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (one.out / name).read_bytes() == (exported.out / name).read_bytes()
    assert "an adapter on 8 layers" in write_report(one.out).read_text()
    assert reproduce(
        str(one.out),
        ReproduceOptions(
            model=str(TINY), harmful=str(TINY / "harmful.txt"), harmless=str(TINY / "harmless.txt"), device="cpu"
        ),
        tmp_path / "again",
    ).same


@pytest.mark.slow
def test_forms_beside_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(TINY), "--harmful", str(TINY / "harmful.txt"), "--harmless", str(TINY / "harmless.txt"), "--json"]
    words += ["--device", "cpu", "--layer", "4", "--sites", "attn,mlp", "--out", str(tmp_path / "edited")]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--save", "checkpoint,adapter,gguf-adapter"])
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["form"] == "checkpoint"
    for name in ("model.safetensors", "adapter/adapter_model.safetensors", "adapter/abliterate.json", "adapter.gguf"):
        assert (tmp_path / "edited" / name).is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--save", "gguf-adapter"], "what is measured is a checkpoint or an adapter; add one of them"),
        (["--save", "lora"], "--save lora: choose among checkpoint, adapter, gguf-adapter"),
        (["--save", "adapter", "--edited-dtype", "bf16"], "add checkpoint to --save"),
    ],
)
def test_forms_that_cannot_be_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(TINY), *words, "--out", str(tmp_path / "edited")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


PLAIN_TEXT = r"""
from abliterate.exports.forms import Written

def export_form(export):
    edit = export.planned()
    export.out.write_text("\n".join(sorted(edit.plan.edits)))
    return Written(notes=("made of words",))
"""
"""The first of two files of a form that the package does not have; the second is a line in the table."""


def test_a_form_that_is_added_is_exported_and_shown(
    edited: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names_of_tensors.py").write_text(PLAIN_TEXT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)  # a long path is cut to the width of the terminal
    form = ExportForm("names_of_tensors", "people", False, "train", "peft", "cat {out}")
    monkeypatch.setitem(EXPORT_FORMS, "names", form)
    out = Path("names.txt")
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["export", str(edited.out), "--to", "names", "--out", str(out), "--model", str(TINY), "--device", "cpu"])
    assert "model.layers.0.mlp.down_proj.weight" in out.read_text().splitlines()
    shown = capsys.readouterr().out.replace("\n", "")
    assert f"cat {out}" in shown
    assert "made of words" in shown
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["export", str(edited.out), "--to", "names", "--out", str(out), "--model", str(TINY)])
    assert "--force" in capsys.readouterr().err


def test_the_table_of_forms_is_read_without_torch() -> None:
    code = "import sys; from abliterate.exports.forms import EXPORT_FORMS; print(*EXPORT_FORMS, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*EXPORT_FORMS, "False"]


@pytest.mark.parametrize("form", EXPORT_FORMS.values(), ids=EXPORT_FORMS)
def test_every_form_of_the_table_has_its_writer(form: ExportForm) -> None:
    assert callable(import_module(form.module).export_form)
    assert "{out" in form.use


@pytest.mark.slow
def test_the_forms_of_the_readme_in_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(TINY), "--harmful", f"{TINY}/harmful.txt", "--harmless", f"{TINY}/harmless.txt", "--device", "cpu"]
    words += ["--layer", "4", "--save", "checkpoint,adapter,gguf-adapter", "--out", str(tmp_path / "edited")]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "--save gguf-adapter" in said
    assert "--leave-out embed" in said
    assert not any(tmp_path.iterdir())
    with pytest.raises(SystemExit) as stop:
        main([*words, "--leave-out", "embed"])
    assert stop.value.code == 0, capsys.readouterr().err
    assert len(GGUFReader(tmp_path / "edited" / "adapter.gguf").tensors) == 2 * 16
    assert (tmp_path / "edited" / "adapter" / "adapter_model.safetensors").is_file()
    command = json.loads((tmp_path / "edited" / "abliterate.json").read_text())["command"]
    assert command[command.index("--leave-out") + 1] == "embed"
