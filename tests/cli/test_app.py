"""The command as a user meets it, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

import abliterate
from abliterate import cli
from abliterate.cli.app import app, in_order_of_help
from abliterate.prompts.prompt_set import load_prompts
from fixtures.tiny_chat import TINY

PROMPTS = ["--harmful", str(TINY / "harmful.txt"), "--harmless", str(TINY / "harmless.txt")]


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the command in this process; return exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def copy_of_tiny(folder: Path) -> Path:
    folder.mkdir()
    for path in TINY.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_the_whole_run_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = call(
        capsys, str(TINY), *PROMPTS, "--layer", "auto", "--no-optimize", "--out", str(tmp_path / "edited"), "--json"
    )
    assert code == 0
    one = json.loads(out)
    assert one["manifest"] == json.loads((tmp_path / "edited" / "abliterate.json").read_text())
    assert one["manifest"]["figures"]["edited"]["harmful_refusals"]["rate"] <= 0.05
    assert len(one["replies"]["original"]["harmful"]) == one["manifest"]["prompts"]["harmful"]["report"]
    assert set(one["seconds"]) >= {"load", "capture", "choose", "edit", "prove"}


def test_the_whole_run_for_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = call(capsys, "run", str(TINY), *PROMPTS, "--layer", "4", "--out", str(tmp_path / "edited"))
    assert code == 0
    for words in (
        "refusals, harmful",
        "KL, last prompt token",
        "layer, position",
        "proof",
        "checkpoint",
        "before",
        "after",
    ):
        assert words in out
    assert "capturing activations" in err or "how refusals and answers open" in err


@pytest.mark.slow
def test_demo_prints_the_table_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "demo")
    assert code == 0
    assert "thrown away" in out


@pytest.mark.parametrize(
    "verb",
    ["run", "demo", "inspect", "architectures", "apply", "verify", "evaluate", "compare", "report", "chat", "push"],
)
def test_every_verb_has_help(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, _ = call(capsys, verb, "--help")
    assert code == 0
    assert "Usage" in out


def test_help_and_completion_do_not_wait_for_torch() -> None:
    script = "import sys; from abliterate import cli; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version") == (0, f"abliterate {abliterate.__version__}\n", "")


def test_inspect_tells_writers_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "inspect", str(TINY))
    assert code == 0
    assert "down_proj" in out
    assert "memory" in out
    code, out, _ = call(capsys, "inspect", str(TINY), "--json")
    assert len(json.loads(out)["writers"]) == 17
    assert json.loads(out)["proof"]["leak"] < 1e-5


def test_architectures_are_listed_with_their_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "architectures", "llama", "doge", "bert")
    assert code == 0
    assert "1 proved, 1 refused, 1 not a residual decoder" in out
    assert "a gain per channel" in " ".join(out.split())
    code, out, _ = call(capsys, "architectures", "llama", "doge", "--json")
    assert [one["status"] for one in json.loads(out)["architectures"]] == ["proved", "refused"]
    code, _, err = call(capsys, "architectures", "nothing")
    assert (code, "no language model of this type" in err) == (2, True)


def post_norm_model(folder: Path) -> Path:
    """A model that cannot be proved, with the tokenizer of the tiny one."""
    copy_of_tiny(folder)
    torch.manual_seed(0)
    words = json.loads((TINY / "config.json").read_text())["vocab_size"]
    config = AutoConfig.for_model("openai-gpt", vocab_size=words, n_embd=32, n_layer=3, n_head=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    save_file(
        {"resid.1": torch.nn.functional.normalize(torch.randn(32), dim=0)}, folder.parent / "directions.safetensors"
    )
    return folder


def test_what_cannot_be_proved_is_refused_unless_allowed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, edited = post_norm_model(tmp_path / "model"), tmp_path / "edited"
    words = ["apply", str(model), "--directions", str(tmp_path / "directions.safetensors"), "--out", str(edited)]
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "transformer.h.0.ln_1: a gain per channel stands over the stream itself" in err
    assert not edited.exists()
    code, out, _ = call(capsys, *words, "--allow-unproved")
    assert code == 0
    assert "NOT PROVED" in out
    assert json.loads((edited / "abliterate.json").read_text())["proof"]["holds"] is False
    assert "**Not proved.**" in (edited / "README.md").read_text()
    assert call(capsys, "verify", str(model), str(edited))[0] == 1


@pytest.mark.slow
def test_verify_says_no_by_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    edited = tmp_path / "edited"
    call(capsys, str(TINY), *PROMPTS, "--layer", "4", "--out", str(edited))
    assert call(capsys, "verify", str(TINY), str(edited))[0] == 0
    tensors = load_file(edited / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, edited / "model.safetensors", metadata={"format": "pt"})
    code, out, _ = call(capsys, "verify", str(TINY), str(edited))
    assert code == 1
    assert "model.norm.weight" in out
    assert "is outside the plan, but differs from the original" in out


@pytest.mark.slow
def test_verify_lists_every_tensor_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    edited = tmp_path / "edited"
    call(capsys, str(TINY), *PROMPTS, "--layer", "4", "--out", str(edited))
    code, out, _ = call(capsys, "verify", str(TINY), str(edited), "--json")
    found = json.loads(out)
    assert (code, found["holds"], found["counts"]["other"]) == (0, True, 0)
    assert len(found["tensors"]) == sum(found["counts"].values())
    for tensor in found["tensors"]:
        assert ("component_before" in tensor) == (tensor["status"] == "edited")
    tensors = load_file(edited / "model.safetensors")
    changed = sorted(tensors)[:: len(tensors) // 30]
    for name in changed:
        tensors[name] = tensors[name] + 1
    del tensors["model.norm.weight"]
    save_file({**tensors, "more": tensors[changed[0]].clone()}, edited / "model.safetensors")
    code, out, _ = call(capsys, "verify", str(TINY), str(edited), "--json")
    found = json.loads(out)
    assert (code, found["holds"], found["proof"]) == (1, False, None)
    others = {tensor["name"]: tensor["problem"] for tensor in found["tensors"] if tensor["status"] == "other"}
    assert set(others) == {*changed, "model.norm.weight", "more"}
    assert others["model.norm.weight"] == "missing from the edited checkpoint"
    assert others["more"] == "extra: nothing of this name is expected"
    code, out, _ = call(capsys, "verify", str(TINY), str(edited))
    assert f"... and {len(others) - 20} more; --json lists them all" in out


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "abliterate", str(TINY), *PROMPTS, "--out", str(tmp_path / "edited")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()  # the first step is done, most are still to come
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert not (tmp_path / "edited").exists()


WRONG = {
    "unknown model": ([str(TINY / "nothing")], "no such folder or file"),
    "hub id offline": (["org/nothing", "--offline"], "is not in the local cache"),
    "layer": ([str(TINY), *PROMPTS, "--layer", "8"], "--layer 8 is out of range; this model has layers 1 to 7"),
    "layer word": ([str(TINY), *PROMPTS, "--layer", "last"], "give a whole number or auto"),
    "sites": ([str(TINY), *PROMPTS, "--layer", "4", "--sites", "head"], "choose among embed, attn, mlp"),
    "direction": ([str(TINY), *PROMPTS, "--direction", "other"], "choose among projected, mean-difference"),
    "dtype": ([str(TINY), *PROMPTS, "--dtype", "int3"], "--dtype int3: unknown"),
    "device": ([str(TINY), *PROMPTS, "--device", "cuda:9"], "--device cuda:9: not on this machine"),
    "batch": ([str(TINY), *PROMPTS, "--batch-size", "0"], "--batch-size 0"),
    "thinking": ([str(TINY), *PROMPTS, "--thinking", "maybe"], "choose among on, off, auto"),
    "prompts": ([str(TINY), "--harmful", "nowhere.txt"], "no such prompt file"),
    "same": ([str(TINY), *PROMPTS[:2], "--harmless", PROMPTS[1]], "both harmful and harmless"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_one_line_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    words, message = WRONG[name]
    code, out, err = call(capsys, *words, "--out", str(tmp_path / "edited"))
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("abliterate: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert out == ""
    assert not list(tmp_path.iterdir())


def damaged(folder: Path, how: str) -> str:
    """Break a copy of the tiny model; return what the error must say."""
    weights = folder / "model.safetensors"
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(weights)
    if how == "no template":
        (folder / "chat_template.jinja").unlink()
        return "--chat-template FILE"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
        return "model.safetensors"
    if how == "nan":
        tensors["model.layers.3.mlp.down_proj.weight"][0, 0] = torch.nan
        save_file(tensors, weights, metadata={"format": "pt"})
        return "NaN"
    if how == "missing tensor":
        del tensors["model.layers.3.mlp.down_proj.weight"]
        save_file(tensors, weights, metadata={"format": "pt"})
        return "model.layers.3.mlp.down_proj.weight"
    if how == "pickle":
        weights.unlink()
        (folder / "pytorch_model.bin").write_bytes(b"x")
        return "only safetensors are read"
    if how == "quantised":
        (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
        return "quantised with gptq, which is not read; use the unquantised checkpoint"
    if how == "unknown type":
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "nothing_known"}))
        return "nothing_known"
    if how == "remote code":
        code = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": code}))
        (folder / "configuration_own.py").write_text("raise SystemExit('was executed')")
        return "--trust-remote-code"
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "../other.safetensors")}
    weights.unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return "expected the name of a file in the folder"


DAMAGES = [
    "no template", "truncated", "nan", "missing tensor", "pickle", "quantised", "unknown type", "remote code", "index",
]  # fmt: skip


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_model_is_one_line_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, how: str
) -> None:
    folder = copy_of_tiny(tmp_path / "model")
    message = damaged(folder, how)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, out, err = call(capsys, str(folder), *PROMPTS, "--layer", "4", "--out", str(tmp_path / "edited"))
    lines = [line for line in err.splitlines() if line.startswith("abliterate: ")]
    assert code == 2, err
    assert len(lines) == 1
    assert message in lines[0]
    assert out == ""
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["model"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_too_little_memory_says_how_much(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    code, _, err = call(capsys, str(TINY), *PROMPTS, "--out", str(tmp_path / "edited"))
    assert code == 2
    assert "the weights need 0.0 GB" in err


@pytest.mark.slow
def test_a_template_file_serves_a_model_without_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "model")
    template = tmp_path / "own.jinja"
    (folder / "chat_template.jinja").rename(template)
    words = ["--chat-template", str(template), "--layer", "4", "--out", str(tmp_path / "edited"), "--json"]
    code, out, _ = call(capsys, str(folder), *PROMPTS, *words)
    assert code == 0
    assert json.loads(out)["manifest"]["figures"]["edited"]["harmful_refusals"]["rate"] <= 0.05


@pytest.mark.slow
def test_the_built_in_prompts_are_the_default(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    # The tiny model answers nothing that it was not made for, so only the prompts' record is looked at.
    code, out, _ = call(capsys, "evaluate", str(TINY), "--json")
    assert code == 0
    prompts = {reply["prompt"] for reply in json.loads(out)["replies"]["model"]["harmful"]}
    assert prompts == set(load_prompts("builtin:harmful").side("report").prompts)


def test_help_shows_the_defaults_that_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are markup to the help's renderer: unescaped, what stands in them vanishes."""
    _, out, _ = call(capsys, "evaluate", "--help")
    assert "[default: the rules]" in " ".join(out.replace("│", " ").split())


@pytest.mark.slow
@pytest.mark.parametrize("module", ["typer", "abliterate.cli.run", "torch"])
@pytest.mark.parametrize("lost", [False, True], ids=["", "lost"])
def test_ctrl_c_while_something_is_imported(module: str, lost: bool, tmp_path: Path) -> None:
    """One line and 130, also where the interrupt is lost in what is imported; no command of its own may lose one."""
    if lost and module != "torch":
        pytest.skip("the command is not there yet, and what it is made of loses none")
    code = (
        "import importlib.abc, os, runpy, signal, sys\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            try:\n"
        "                os.kill(os.getpid(), signal.SIGINT)\n"
        "                [None for _ in range(1000)]\n"
        "            except KeyboardInterrupt:\n"
        f"                if not {lost}: raise\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"sys.argv = ['abliterate', 'run', {str(TINY)!r}, *{PROMPTS!r}, '--out', {str(tmp_path / 'edited')!r}]\n"
        "runpy.run_module('abliterate', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("abliterate: ")]
    assert len(lines) == 1
    assert lines[0].startswith("abliterate: interrupted; nothing ")
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not (tmp_path / "edited").exists()


def test_verbs_stand_by_panel_the_whole_run_first() -> None:
    before = [command.name for command in app.registered_commands]
    app.registered_commands.reverse()
    in_order_of_help()
    assert [command.name for command in app.registered_commands] == before
    assert before[0] == "run"
    panels = [command.rich_help_panel for command in app.registered_commands]
    assert list(dict.fromkeys(panels)) == ["edit", "measure", "look", "ship", "study"]
