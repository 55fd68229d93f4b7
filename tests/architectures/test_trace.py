"""The way from a writer to the stream: gains behind it, and what no edit can undo."""

from __future__ import annotations

import pytest
import torch

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.architectures.clone import D_MODEL, clone_inputs, random_clone
from abliterate.architectures.trace import Gain, trace
from abliterate.errors import ArchitectureError
from abliterate.proofs.census import class_and_config, published_config
from fixtures.empty_models import class_of, empty
from fixtures.models import random_model


def behind(architecture: Architecture) -> set[tuple[str, float]]:
    """The gains of the writers inside the layers, by the last name of their module."""
    paths = [path for writer in architecture.writers if writer.layer is not None for path in writer.paths]
    return {(str(gain.parameter).split(".")[-2], gain.offset) for path in paths for gain in path}


@pytest.mark.parametrize(("family", "offset"), [("gemma3_text", 1.0), ("olmo2", 0.0)])
def test_norms_behind_writers_are_their_gain(family: str, offset: float) -> None:
    expected = {("post_attention_layernorm", offset), ("post_feedforward_layernorm", offset)}
    assert behind(find_architecture(random_model(family))) == expected


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_pre_norms_are_no_gain(family: str) -> None:
    assert all(writer.plain for writer in find_architecture(random_model(family)).writers)


def test_a_norm_behind_the_embedding_and_its_bias_are_found() -> None:
    writers = {writer.module: writer for writer in find_architecture(empty("bloom")).writers}
    embedding = writers["transformer.word_embeddings"]
    assert [gain.centred for gain in embedding.paths[0]] == [True]
    assert writers["transformer.word_embeddings_layernorm"].constant


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("openai-gpt", r"ln_1: a gain per channel stands over the stream itself"),
        ("doge", r"layers\.0: a gain per channel stands over the stream itself"),
        ("rwkv", r"feed_forward: what is written is multiplied channel by channel"),
        ("ctrl", r"a fixed table that is not among the weights"),
    ],
)
def test_what_no_edit_can_undo_is_refused_with_its_place(model_type: str, reason: str) -> None:
    model = random_clone(*class_of(model_type))
    with pytest.raises(ArchitectureError, match=reason):
        find_architecture(model)
    assert find_architecture(model, allow_unproved=True).problems


def test_what_a_gain_multiplies_by() -> None:
    weight = torch.nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.bfloat16))
    assert Gain("x", offset=1.0).value(weight).tolist() == [1.5, 0.0]
    taps = torch.nn.Parameter(torch.arange(6.0).reshape(2, 1, 3))  # [d_model, 1, taps]
    assert Gain("x", tap=2).value(taps).tolist() == [2.0, 5.0]


def test_the_walk_finds_every_writer_with_its_axis() -> None:
    clone = random_clone(*class_and_config("gpt2", published_config("gpt2")))
    found = trace(clone, D_MODEL, clone_inputs(clone))
    assert found.layers == "transformer.h"
    assert found.problems == ()
    axes = {one.parameter.split(".", 3)[-1]: one.axis for one in found.findings if ".h.0." in one.parameter}
    assert axes == dict.fromkeys(("attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"), -1)
    outside = {one.parameter for one in found.findings if ".h." not in one.parameter}
    assert outside == {"transformer.wte.weight", "transformer.wpe.weight"}
    assert set(found.aliases["transformer.wte.weight"]) == {"transformer.wte.weight", "lm_head.weight"}
