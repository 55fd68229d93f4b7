"""The way from a writer to the stream: gains behind it, and what no edit can undo."""

from __future__ import annotations

import pytest

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.architectures.clone import random_clone
from abliterate.errors import ArchitectureError
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
