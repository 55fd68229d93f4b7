"""Blocks that are cut off at a weight's end are known by the shapes, and dequantised as a whole block is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.partial_blocks import dequantized_here, dequantized_weights, without_quantisation
from fixtures.quantized_models import quantise_checkpoint, random_checkpoint


@pytest.mark.parametrize(("width", "partial"), [(200, True), (192, False)])
def test_only_weights_that_blocks_do_not_divide_are_partial(tmp_path: Path, width: int, partial: bool) -> None:
    heads = {"hidden_size": 128, "num_key_value_heads": 4}
    folder = random_checkpoint("llama", tmp_path, intermediate_size=width, **heads)
    plain = load_file(folder / "model.safetensors")
    assert not dequantized_here(Checkpoint.open(folder))
    checkpoint = Checkpoint.open(quantise_checkpoint(folder, "fp8 block"))
    assert dequantized_here(checkpoint) == partial
    weights = dequantized_weights(checkpoint, torch.float32)
    assert set(weights) == set(plain)
    for name, weight in weights.items():
        assert torch.allclose(weight.float(), plain[name].float(), atol=0.07 * float(plain[name].abs().max()))
    name = "model.layers.0.mlp.down_proj.weight"
    assert weights[name].dtype == torch.float32
    assert not torch.equal(weights[name], plain[name].float())
    assert torch.equal(weights["model.norm.weight"], plain["model.norm.weight"])


def test_a_config_without_quantisation(tmp_path: Path) -> None:
    folder = quantise_checkpoint(random_checkpoint("llama", tmp_path), "fp8 block")
    config = AutoConfig.from_pretrained(folder)
    assert config.quantization_config
    assert not hasattr(without_quantisation(config), "quantization_config")
