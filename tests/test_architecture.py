from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from abliterate.architecture import find_architecture
from abliterate.errors import ArchitectureError
from conftest import random_model


def test_every_family_has_its_writers(model: PreTrainedModel) -> None:
    architecture = find_architecture(model)
    assert architecture.depth == 4
    assert architecture.d_model == 48
    for layer in range(4):
        assert {writer.site for writer in architecture.writers if writer.layer == layer} == {"attn", "mlp"}


def test_residual_axes_are_where_the_output_is(model: PreTrainedModel) -> None:
    for writer in find_architecture(model).writers:
        for name, axis in writer.parameters:
            assert model.get_submodule(writer.module).get_parameter(name).shape[axis] == 48


@pytest.mark.parametrize(("family", "offset"), [("gemma3_text", 1.0), ("olmo2", 0.0)])
def test_norms_behind_writers_are_their_gain(family: str, offset: float) -> None:
    writers = [writer for writer in find_architecture(random_model(family)).writers if writer.layer is not None]
    assert all(writer.norm is not None and writer.norm.offset == offset for writer in writers)
    assert {writer.norm.module.rpartition(".")[2] for writer in writers if writer.norm} == {
        "post_attention_layernorm",
        "post_feedforward_layernorm",
    }


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_pre_norms_are_no_gain(family: str) -> None:
    assert not any(writer.norm for writer in find_architecture(random_model(family)).writers)


def test_learned_positions_are_a_writer() -> None:
    modules = [writer.module for writer in find_architecture(random_model("gpt2")).writers if writer.site == "embed"]
    assert modules == ["transformer.wte", "transformer.wpe"]


def test_output_biases_are_written_too() -> None:
    names = {name for writer in find_architecture(random_model("gpt2")).writers for name, _ in writer.parameters}
    assert names == {"weight", "bias"}


def test_tied_embeddings_are_seen() -> None:
    assert find_architecture(random_model("gpt2")).tied
    assert not find_architecture(random_model("llama", tie_word_embeddings=False)).tied


def test_a_model_without_weights_will_do() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama"))
    assert find_architecture(model).depth == 32


def test_what_is_not_understood_is_refused() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("mixtral", num_hidden_layers=2))
    with pytest.raises(ArchitectureError, match="fused experts"):
        find_architecture(model)
