"""How a card says a result is loaded: its Python runs, its commands parse, and a vLLM reads such a config."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from typer.main import get_command

from abliterate.cli.app import app
from abliterate.commands.export import export
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import Result
from abliterate.records.card_usage import usage_text
from fixtures.tiny_chat import TINY

EDIT: dict[str, Any] = {"command": ["abliterate", "m", "--out", "edited"], "recipe": {"direction": "resid.4"}}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def blocks(text: str, language: str) -> list[str]:
    return [found[2] for found in BLOCK.finditer(text) if found[1] == language]


def test_with_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(TINY, tmp_path / "edited")
    monkeypatch.chdir(tmp_path)
    exec(blocks(usage_text(EDIT, None), "python")[0], {})
    assert len(capsys.readouterr().out.split()) > 3


def test_vllm_reads_a_class_that_transformers_names() -> None:
    # vLLM picks its own class by this name, and the rest of the config is the original's.
    config = json.loads((TINY / "config.json").read_text())
    assert config["architectures"] == [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config["model_type"]]]
    with safe_open(TINY / "model.safetensors", framework="pt") as file:
        assert "model.embed_tokens.weight" in file.keys()  # noqa: SIM118 - the names of the class, not of a wrapper
    assert "vllm serve edited" in blocks(usage_text(EDIT, None), "sh")[0]


def test_the_commands_parse() -> None:
    group: Any = get_command(app)
    text = usage_text(EDIT, "org/model")
    found = [line for block in blocks(text, "sh") for line in block.splitlines() if line.startswith("abliterate")]
    for line in found:
        _, verb, *words = shlex.split(line)
        group.commands[verb].make_context(verb, words)
    assert ["--model org/model" in line for line in found] == [True, True]


def test_an_adapter_and_what_is_added_are_loaded_in_their_own_way() -> None:
    added = {**EDIT, "recipe": {"added": 3.0}}
    assert "merge_and_unload" in usage_text({**EDIT, "form": "adapter"}, None)
    assert "merge_and_unload" not in usage_text({**added, "form": "adapter"}, None)
    assert "export" not in usage_text(added, None)
    assert "vllm serve EDITED" in usage_text({**EDIT, "command": ["abliterate", "m", "--out", "$(rm x)"]}, None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_with_peft(edited: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TINY, "ORIGINAL")
    export(ExportOptions(edited.out, "adapter"), Options("ORIGINAL", Path("adapter")))
    names: dict[str, Any] = {}
    exec(blocks(usage_text(EDIT, None), "python")[-1], names)
    assert names["model"].peft_config["default"].r >= 1
