"""The writers of a model, found without its weights."""

from __future__ import annotations

from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.clone import random_clone
from fixtures.empty_models import class_of, empty
from fixtures.models import random_model


def test_every_family_has_its_writers(model: PreTrainedModel) -> None:
    architecture = find_architecture(model)
    assert architecture.depth == 4
    assert architecture.d_model == 48
    for layer in range(4):
        assert {writer.site for writer in architecture.writers if writer.layer == layer} == {"attn", "mlp"}


def test_a_gain_has_the_number_of_its_own_layer() -> None:
    for writer in find_architecture(random_model("gemma3_text")).writers:
        if writer.layer is not None:
            assert all(f".{writer.layer}." in str(gain.parameter) for path in writer.paths for gain in path)


def test_learned_positions_are_a_writer() -> None:
    modules = {writer.module for writer in find_architecture(random_model("gpt2")).writers if writer.site == "embed"}
    assert modules == {"transformer.wte", "transformer.wpe"}


def test_tied_embeddings_are_seen() -> None:
    assert find_architecture(random_model("gpt2")).tied
    assert not find_architecture(random_model("llama", tie_word_embeddings=False)).tied


def test_a_model_without_weights_will_do() -> None:
    assert find_architecture(empty("llama")).depth == 32


def test_fused_experts_and_shared_experts_are_writers() -> None:
    architecture = find_architecture(empty("qwen2_moe", num_hidden_layers=3))
    modules = {writer.module.partition("layers.0.")[2] for writer in architecture.writers if writer.layer == 0}
    assert modules == {"self_attn.o_proj", "mlp.experts", "mlp.shared_expert.down_proj"}


def test_mixers_that_are_no_attention_are_writers() -> None:
    architecture = find_architecture(empty("mamba", num_hidden_layers=2))
    assert {writer.site for writer in architecture.writers} == {"embed", "attn"}


def test_what_stands_beside_the_text_decoder_is_named() -> None:
    assert find_architecture(random_clone(*class_of("gemma3"))).outside == ("multi_modal_projector", "vision_tower")
    assert find_architecture(empty("llama")).outside == ()
