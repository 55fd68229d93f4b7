"""Configs of adapters that somebody else made: one line within seconds for what would never end, or take all memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from abliterate.errors import InputError
from abliterate.models.adapter import attach, base_of
from abliterate.models.adapter_config import check_adapter_config, read_adapter_config
from fixtures.models import random_model
from fixtures.patience import patience

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    adapted = get_peft_model(random_model("llama"), LoraConfig(r=2, target_modules=["down_proj"]))
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def change(adapter: Path, **fields: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_usual_one_passes_and_so_do_expressions_that_end(adapter: Path, llama: PreTrainedModel) -> None:
    check_adapter_config(adapter, llama)
    change(adapter, target_modules=r".*\.down_proj", rank_pattern={"down_proj": 2}, layers_pattern="layers")
    check_adapter_config(adapter, llama)
    change(adapter, layers_pattern=None)
    attach(llama, adapter)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"target_modules": "(([a-z.0-9_]+)*)*!"}, "take too long"),
        pytest.param({"exclude_modules": "(([a-z.0-9_]+)*)*!"}, "take too long", marks=pytest.mark.slow),
        pytest.param({"rank_pattern": {"(([a-z.0-9_]+)*)*!": 2}}, "take too long", marks=pytest.mark.slow),
        pytest.param({"alpha_pattern": {"(([a-z.0-9_]+)*)*!": 2}}, "take too long", marks=pytest.mark.slow),
        ({"target_modules": "(("}, "a regular expression in it is none"),
        ({"lora_alpha": "x"}, "lora_alpha is 'x'; expected a finite number"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan; expected a finite number"),
        ({"r": 10**9}, "r is 1000000000, and its weights have no such rank"),
        ({"r": -1}, "r is -1, and its weights have no such rank"),
        ({"r": True}, "r is True, and its weights have no such rank"),
        ({"rank_pattern": {"down_proj": 10**9}}, "rank_pattern.down_proj is 1000000000, and its weights"),
        ({"target_modules": 5}, "does not fit the model"),
        ({"target_modules": [["down_proj"]]}, "does not fit the model"),
        ({"peft_type": "NOTHING"}, "does not fit the model"),
        ({"lora_dropout": "x"}, "does not fit the model"),
    ],
    ids=str,
)
def test_a_hostile_one_is_one_line_within_seconds(
    adapter: Path, llama: PreTrainedModel, fields: dict[str, Any], said: str
) -> None:
    change(adapter, **fields)
    with patience(), pytest.raises(InputError, match=said) as caught:
        attach(llama, adapter)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "null", "", "\ufeff{}", "{"])
def test_a_config_that_cannot_be_read(adapter: Path, text: str) -> None:
    (adapter / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        read_adapter_config(adapter)
    with pytest.raises(InputError, match="cannot be read"):
        base_of(adapter)


def test_a_base_that_is_no_name(adapter: Path) -> None:
    change(adapter, base_model_name_or_path=["x"])
    with pytest.raises(InputError, match="base_model_name_or_path should be text"):
        base_of(adapter)


def test_weights_that_are_cut_and_pipes(adapter: Path, llama: PreTrainedModel) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"the adapter cannot be read .*truncated"):
        attach(llama, adapter)
    if hasattr(os, "mkfifo"):
        os.mkfifo(adapter / "notes")
        with pytest.raises(InputError, match="notes is a pipe"):
            attach(llama, adapter)
    assert not any(isinstance(one, torch.nn.ModuleDict) for one in llama.modules())
