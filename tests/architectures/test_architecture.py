from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.architectures.clone import random_clone
from abliterate.errors import ArchitectureError
from fixtures.models import random_model


def empty(model_type: str, **fields: object) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **fields))


def behind(architecture: Architecture) -> set[tuple[str, float]]:
    """The gains of the writers inside the layers, by the last name of their module."""
    paths = [path for writer in architecture.writers if writer.layer is not None for path in writer.paths]
    return {(str(gain.parameter).split(".")[-2], gain.offset) for path in paths for gain in path}


def test_every_family_has_its_writers(model: PreTrainedModel) -> None:
    architecture = find_architecture(model)
    assert architecture.depth == 4
    assert architecture.d_model == 48
    for layer in range(4):
        assert {writer.site for writer in architecture.writers if writer.layer == layer} == {"attn", "mlp"}


def test_residual_axes_are_where_the_output_is(model: PreTrainedModel) -> None:
    for writer in find_architecture(model).writers:
        for one in writer.parameters:
            parameter = model.get_submodule(writer.module).get_parameter(one.name)
            assert parameter.shape[one.axis] == 48
            assert one.stored_axis == one.axis


@pytest.mark.parametrize(("family", "offset"), [("gemma3_text", 1.0), ("olmo2", 0.0)])
def test_norms_behind_writers_are_their_gain(family: str, offset: float) -> None:
    expected = {("post_attention_layernorm", offset), ("post_feedforward_layernorm", offset)}
    assert behind(find_architecture(random_model(family))) == expected


def test_a_gain_has_the_number_of_its_own_layer() -> None:
    for writer in find_architecture(random_model("gemma3_text")).writers:
        if writer.layer is not None:
            assert all(f".{writer.layer}." in str(gain.parameter) for path in writer.paths for gain in path)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_pre_norms_are_no_gain(family: str) -> None:
    assert all(writer.plain for writer in find_architecture(random_model(family)).writers)


def test_learned_positions_are_a_writer() -> None:
    modules = {writer.module for writer in find_architecture(random_model("gpt2")).writers if writer.site == "embed"}
    assert modules == {"transformer.wte", "transformer.wpe"}


def test_output_biases_are_written_too() -> None:
    writers = find_architecture(random_model("gpt2")).writers
    assert {one.name for writer in writers for one in writer.parameters} == {"weight", "bias"}


def test_tied_embeddings_are_seen() -> None:
    assert find_architecture(random_model("gpt2")).tied
    assert not find_architecture(random_model("llama", tie_word_embeddings=False)).tied


def test_a_model_without_weights_will_do() -> None:
    assert find_architecture(empty("llama")).depth == 32


def test_fused_experts_and_shared_experts_are_writers() -> None:
    architecture = find_architecture(empty("qwen2_moe", num_hidden_layers=3))
    modules = {writer.module.partition("layers.0.")[2] for writer in architecture.writers if writer.layer == 0}
    assert modules == {"self_attn.o_proj", "mlp.experts", "mlp.shared_expert.down_proj"}


@pytest.mark.parametrize(("model_type", "axis"), [("mixtral", -2), ("gpt_oss", -1)])
def test_both_orders_of_fused_experts_are_told_apart(model_type: str, axis: int) -> None:
    writers = find_architecture(empty(model_type, num_hidden_layers=2)).writers
    experts = [one for writer in writers if writer.module.endswith("experts") for one in writer.parameters]
    assert {one.axis for one in experts if one.name == "down_proj"} == {axis}


def test_unfused_experts_on_disk_have_an_axis_of_their_own() -> None:
    writers = find_architecture(empty("mixtral", num_hidden_layers=2)).writers
    stored = [one.stored_axis for writer in writers if writer.module.endswith("experts") for one in writer.parameters]
    assert set(stored) == {-2}  # experts.N.w2.weight is [d_model, in]


def test_a_norm_behind_the_embedding_and_its_bias_are_found() -> None:
    writers = {writer.module: writer for writer in find_architecture(empty("bloom")).writers}
    embedding = writers["transformer.word_embeddings"]
    assert [gain.centred for gain in embedding.paths[0]] == [True]
    assert writers["transformer.word_embeddings_layernorm"].constant


def test_mixers_that_are_no_attention_are_writers() -> None:
    architecture = find_architecture(empty("mamba", num_hidden_layers=2))
    assert {writer.site for writer in architecture.writers} == {"embed", "attn"}


def test_layers_of_different_kinds_keep_their_own_gains() -> None:
    # In OLMo hybrid only attention layers have norms behind their writers; both kinds call their MLP the same.
    found = find_architecture(random_clone(*class_of("olmo_hybrid"))).writers
    plain = {writer.layer: writer.plain for writer in found if writer.module.endswith("mlp.down_proj")}
    assert set(plain.values()) == {True, False}


def test_what_stands_beside_the_text_decoder_is_named() -> None:
    assert find_architecture(random_clone(*class_of("gemma3"))).outside == ("multi_modal_projector", "vision_tower")
    assert find_architecture(empty("llama")).outside == ()


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


def test_a_layer_that_the_clone_does_not_know_is_refused() -> None:
    model = empty("llama", num_hidden_layers=3)
    model.model.layers[1].extra = torch.nn.Linear(8, 8, device="meta")
    with pytest.raises(ArchitectureError, match=r"layers\.1\.extra\.(bias|weight): its small clone has no layer like"):
        find_architecture(model)


def class_of(model_type: str) -> tuple[type[PreTrainedModel], object]:
    from abliterate.proofs.census import class_and_config, published_config

    return class_and_config(model_type, published_config(model_type))
