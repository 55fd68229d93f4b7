"""One rule for where the decoder layers are: of the whole model, whose memory is planned, and of its clone, which is run."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.layers import check_layer, decoder_layers, layer_list
from abliterate.errors import InputError
from abliterate.proofs.census import class_and_config, published_config


@pytest.mark.parametrize(
    "name", ["llama", "gpt2", "mamba", "modernbert-decoder", "qwen3_moe", "glm_ocr", "paddleocr_vl"]
)
def test_the_layers_of_a_model_are_those_that_its_clone_ran(name: str) -> None:
    """In modernbert-decoder `decoder` is the head; in the last two the vision tower is larger than the text decoder."""
    model_class, config = class_and_config(name, published_config(name))
    with torch.device("meta"):
        model = model_class._from_config(copy.deepcopy(config))
    assert tuple(decoder_layers(model)) == find_architecture(model).layers


def test_lists_inside_others_and_lists_that_do_not_count_are_left_out() -> None:
    config = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=9)
    model = LlamaForCausalLM(config)
    model.model.layers[0].experts = nn.ModuleList([nn.Linear(16, 16)])
    model.model.larger = nn.ModuleList([nn.Linear(16, 1600)])
    assert layer_list(model) == "model.larger"
    assert layer_list(model, lambda name: name != "model.larger") == "model.layers"
    assert layer_list(model, lambda name: False) is None
    model.model.layers, model.model.larger = nn.Sequential(), nn.ModuleList()
    assert decoder_layers(model) == []


@pytest.mark.parametrize("layer", [0, 8, -1])
def test_a_layer_out_of_range_is_refused(layer: int) -> None:
    with pytest.raises(InputError, match=rf"^--layer {layer} is out of range; this model has layers 1 to 7$"):
        check_layer(layer, 8)
    assert [check_layer(one, 8) for one in (1, 7)] == [1, 7]
