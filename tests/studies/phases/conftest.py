"""A small model whose stream is known: no layer writes to it, and the head reads one direction of it."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from abliterate.models.live_model import LiveModel
from fixtures.tiny_chat import tiny_chat

SAFE = 7
"""The token that the head says the more, the more of the planted direction there is in the stream."""

WIDTH = 64


@pytest.fixture
def planted() -> tuple[LiveModel, torch.Tensor]:
    """Return a model that says `SAFE` by the component along a direction, and the direction."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tiny_chat().tokenizer), hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    direction = torch.nn.functional.normalize(torch.randn(WIDTH), dim=0)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.normal_()
        model.lm_head.weight.zero_()
        model.lm_head.weight[SAFE] = 8 * direction
    return LiveModel.of(model, tiny_chat()), direction
