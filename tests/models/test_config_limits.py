"""A config.json that asks for too much, or cannot be held, is one line within seconds, before anything is built."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from abliterate.errors import CheckpointError, InputError
from abliterate.models.config_limits import check_config
from abliterate.models.source import load_tokenizer, resolve, resolve_config
from fixtures.mutations import outcome
from fixtures.patience import patience
from fixtures.tiny_chat import TINY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(TINY, tmp_path / "model")
    return tmp_path / "model"


def change(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("value", [10**9, 10**18, -(10**9), 1e30])
@pytest.mark.parametrize(
    "name", ["num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size", "num_experts"]
)
def test_a_billion_of_something_is_refused_by_name(folder: Path, name: str, value: float) -> None:
    change(folder, **{name: value})
    for opening in (resolve, resolve_config):
        told = rf"config\.json: {name} is .*; expected at most"
        with patience(), pytest.raises(CheckpointError, match=told):
            opening(str(folder))


def test_parts_of_the_model_and_lists_are_looked_through(folder: Path) -> None:
    change(folder, text_config={"num_hidden_layers": 10**9})
    with pytest.raises(CheckpointError, match=r"text_config\.num_hidden_layers is 1e\+09"):
        check_config(folder)
    change(folder, text_config={}, depths=[2, 10**9])
    with pytest.raises(CheckpointError, match=r"depths is 1e\+09"):
        check_config(folder)
    change(folder, depths=[], anything=2**64)
    with pytest.raises(CheckpointError, match="anything is"):
        check_config(folder)


def test_the_largest_models_pass(folder: Path) -> None:
    change(
        folder, num_hidden_layers=1000, num_experts=1024, vocab_size=1_000_000, hidden_size=65536, rope_theta=1e12,
        sliding_window=2**31, max_position_embeddings=10_485_760, time_step_limit=[0.0, float("inf")],
    )  # fmt: skip
    check_config(folder)


HOSTILE: dict[str, Any] = {
    "num_attention_heads": 0,
    "rms_norm_eps": "x",
    "dtype": "os.system",
    "model_type": ["llama"],
    "layer_types": ["x"],
    "tie_word_embeddings": {},
    "hidden_act": 5,
    "rope_parameters": [],
    "architectures": 5,
    "auto_map": [],
    "quantization_config": "x",
    "head_dim": -1,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_value_of_another_kind_is_a_model_or_one_line(folder: Path, name: str) -> None:
    change(folder, **{name: HOSTILE[name]})
    for opening in (lambda: resolve(str(folder)).empty, lambda: resolve_config(str(folder))):
        outcome(opening)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "null", "", "\ud800", "9" * 5000, '{"a": "\\ud800"}'])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_json_that_cannot_be_held_is_one_line(folder: Path, file: str, text: str) -> None:
    (folder / file).write_bytes(text.encode(errors="surrogatepass"))
    tokenizer = outcome(lambda: load_tokenizer(resolve(str(folder))))
    assert tokenizer is None or file == "tokenizer_config.json"  # of which transformers takes what it can use


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "notes"])
def test_a_pipe_in_the_folder_is_one_line_at_once(folder: Path, file: str) -> None:
    (folder / file).unlink(missing_ok=True)
    os.mkfifo(folder / file)
    for opening in (resolve, resolve_config):
        with pytest.raises(CheckpointError, match=f"{file} is a pipe, not a file; take it away"):
            opening(str(folder))


def test_a_folder_without_a_config_is_left_to_who_needs_one(tmp_path: Path) -> None:
    check_config(tmp_path)
    with pytest.raises(InputError, match="cannot be loaded"):
        resolve_config(str(tmp_path))
    assert AutoConfig.from_pretrained(TINY).num_hidden_layers == 8
