"""Configs of adapters from strangers: looked through, or one line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from hypothesis import example, given
from safetensors.torch import save_file
from torch import nn

from abliterate.models.adapter import base_of
from abliterate.models.adapter_config import check_adapter_config
from fixtures.mutations import fuzz, mutated_json, outcome

CONFIG = {
    "base_model_name_or_path": "m",
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "target_modules": ["0", "1"],
    "exclude_modules": None,
    "layers_pattern": ["layers"],
    "layers_to_transform": [0],
    "rank_pattern": {"0": 4},
    "alpha_pattern": {"1": 4.0},
    "modules_to_save": None,
}


def test_looked_through_or_one_line() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_file({"base_model.model.0.lora_A.weight": torch.ones(4, 8)}, folder / "adapter_model.safetensors")

        @fuzz
        @given(mutated_json(CONFIG))
        @example(b'{"target_modules": "(a*)*(a*)*(a*)*(a*)*b"}')
        def target(content: bytes) -> None:
            (folder / "adapter_config.json").write_bytes(content)
            outcome(lambda: base_of(folder))
            outcome(lambda: check_adapter_config(folder, model))

        target()
