"""The proof on a small clone: what it accepts, and that it fails when any one thing is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from abliterate.architectures.architecture import Architecture, Parameter, Writer, find_architecture
from abliterate.architectures.clone import random_clone
from abliterate.errors import ArchitectureError, ProofError
from abliterate.proofs.architecture import AGREE, SILENT_LIMIT, prove, require_proof
from abliterate.proofs.census import class_and_config, published_config


def broken(model_type: str, change: Callable[[Writer], Writer | None]) -> Architecture:
    """The architecture of the type's clone in which a change was made to every writer; None leaves it out."""
    found = find_architecture(random_clone(*class_and_config(model_type, published_config(model_type))))
    writers = tuple(changed for writer in found.writers if (changed := change(writer)) is not None)
    assert writers != found.writers
    return replace(found, writers=writers)


def proved_with(model_type: str, architecture: Architecture | None = None) -> None:
    prove(*class_and_config(model_type, published_config(model_type)), architecture)


@pytest.mark.parametrize("model_type", ["gemma3_text", "gpt2", "qwen2_moe", "gpt_oss"])
def test_the_whole_is_proved(model_type: str) -> None:
    proved = prove(*class_and_config(model_type, published_config(model_type)))
    assert proved.leak < SILENT_LIMIT < proved.before
    assert proved.difference < AGREE


@pytest.mark.parametrize("model_type", ["gemma3_text", "olmo2", "gpt2", "bloom", "gpt_oss"])
def test_three_directions_are_proved_each_at_its_own_strength(model_type: str) -> None:
    proved = prove(*class_and_config(model_type, published_config(model_type)), rank=3)
    assert proved.leak < SILENT_LIMIT < proved.before
    assert proved.difference < AGREE


def test_own_strengths_without_the_gains_fail() -> None:
    architecture = broken("gemma3_text", lambda writer: replace(writer, paths=((),)))
    with pytest.raises(ProofError, match=r"gemma3_text: the edited clone still writes .* at resid\[1\]: "):
        prove(*class_and_config("gemma3_text", published_config("gemma3_text")), architecture, rank=2)


def test_without_the_gains_it_fails_and_names_the_layer() -> None:
    with pytest.raises(ProofError, match=r"gemma3_text: the edited clone still writes .* at resid\[1\]: "):
        proved_with("gemma3_text", broken("gemma3_text", lambda writer: replace(writer, paths=((),))))


def test_without_the_biases_it_fails_and_names_the_layer() -> None:
    def weights(writer: Writer) -> Writer:
        return replace(writer, parameters=tuple(one for one in writer.parameters if one.name != "bias"))

    with pytest.raises(ProofError, match=r"gpt2: the edited clone still writes .* at resid\[1\]: "):
        proved_with("gpt2", broken("gpt2", weights))


def test_without_the_shared_experts_it_fails_and_names_the_layer() -> None:
    with pytest.raises(ProofError, match=r"qwen2_moe: the edited clone still writes .* at resid\[1\]: "):
        proved_with("qwen2_moe", broken("qwen2_moe", lambda writer: None if "shared" in writer.module else writer))


def turned(one: Parameter) -> Parameter:
    return replace(one, axis={-1: -2, -2: -1}[one.axis], stored_axis={-1: -2, -2: -1}[one.stored_axis or -1])


def test_with_the_experts_in_the_other_order_it_fails_and_names_the_layer() -> None:
    def change(writer: Writer) -> Writer:
        matrices = tuple(turned(one) if one.name == "down_proj" else one for one in writer.parameters)
        return replace(writer, parameters=matrices)

    with pytest.raises(
        ArchitectureError, match=r"model\.layers\.0\.mlp\.experts\.down_proj: axis -2 of .* is not the residual stream"
    ):
        proved_with("gpt_oss", broken("gpt_oss", change))


def test_a_writer_that_hooks_miss_is_seen_at_half_strength() -> None:
    # The files are edited as they should be; only the hook is in the wrong place.
    def change(writer: Writer) -> Writer:
        return replace(writer, hook=writer.hook.replace("self_attn.o_proj", "input_layernorm"))

    with pytest.raises(ProofError, match=r"llama: hooks and edited weights disagree at strength 0.5 at resid\[1\]"):
        proved_with("llama", broken("llama", change))


def test_a_model_that_cannot_be_proved_needs_leave() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("openai-gpt", n_embd=32, n_layer=2, n_head=4))
    with pytest.raises(ArchitectureError, match="a gain per channel stands over the stream itself"):
        require_proof(model)
    architecture, proved = require_proof(model, allow_unproved=True)
    assert proved is None
    assert architecture.problems


def test_a_leak_is_allowed_by_name_only() -> None:
    # XGLM adds a table of sines that is not stored: nothing on disk can be edited.
    model = random_clone(*class_and_config("xglm", published_config("xglm")))
    with pytest.raises(ProofError, match=r"xglm: the edited clone still writes along the direction at resid\[0\]"):
        require_proof(model)
    architecture, proved = require_proof(model, allow_unproved=True)
    assert (proved, len(architecture.problems)) == (None, 1)
