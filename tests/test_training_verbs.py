"""`harden` and `heal` by the command, on the tiny model, in a few steps: what they write and what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from abliterate.cli import main
from abliterate.pipeline import run
from abliterate.verbs.evaluate import evaluate
from abliterate.verbs.wanted import Wanted
from test_end_to_end import TINY, options

# peft asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

LISTS = ["--harmful", str(TINY / "harmful.txt"), "--harmless", str(TINY / "harmless.txt"), "--device", "cpu"]


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_a_hardened_adapter_is_written_with_its_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "hardened"
    code, said, _ = call(capsys, "harden", str(TINY), *LISTS, "--steps", "2", "--out", str(out), "--json")
    assert code == 0
    assert {path.name for path in out.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "hardened.json",
    }
    record: dict[str, Any] = json.loads((out / "hardened.json").read_text())
    assert json.loads(said)["after"] == record["after"]
    assert record["before"]["edited"]["count"] == 0
    assert record["before"]["harmful"]["rate"] == 1
    assert str(TINY.parent) not in (out / "hardened.json").read_text() + (out / "adapter_config.json").read_text()
    one = evaluate(options(Path(), model=str(out)), Wanted(reply_tokens=8, n_prompts=8, look_alikes=None), str(TINY))
    assert one.model.name == "hardened"
    code, _, error = call(capsys, "harden", str(TINY), *LISTS, "--out", str(out))
    assert (code, "--force" in error) == (2, True)


def test_an_edited_model_is_healed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    edited = run(options(tmp_path / "edited")).out
    rows = [{"prompt": f"What is {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(1, 31)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["heal", str(edited), "--dataset", str(tmp_path / "rows.jsonl"), "--steps", "2", "--device", "cpu"]
    code, said, _ = call(capsys, *words, "--out", str(tmp_path / "healed"), "--json")
    assert code == 0
    record = json.loads(said)
    assert record["training"]["steps"] == 2
    assert record["proof"]["drift"] <= record["proof"]["limit"]
    assert (tmp_path / "healed" / "model.safetensors").is_file()
    code, said, _ = call(capsys, *words, "--adapter", "--out", str(tmp_path / "adapter"))
    assert code == 0
    assert "the direction is still out" in " ".join(said.split())
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    code, _, error = call(capsys, *words, "--method", "ppo", "--out", str(tmp_path / "none"))
    assert code == 2
    assert "ppo" in error
    assert not (tmp_path / "none").exists()
