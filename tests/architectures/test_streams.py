"""The residual stream: what each layer reads, what the last one wrote, lanes apart."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.clone import clone_inputs, random_clone
from abliterate.architectures.streams import clone_streams, lanes, resid_of
from abliterate.errors import ArchitectureError
from abliterate.proofs.census import class_and_config, published_config

TOKENS = torch.tensor([[5, 9, 33], [7, 2, 60]])


def test_the_stream_is_that_of_transformers_and_the_end_is_before_the_final_norm(llama: PreTrainedModel) -> None:
    with torch.no_grad(), resid_of(llama, find_architecture(llama)) as stream:
        output = llama(TOKENS, output_hidden_states=True)
    assert len(stream) == 5
    for own, theirs in zip(stream[:-1], output.hidden_states[:-1], strict=True):
        assert torch.equal(own, theirs)
    assert torch.allclose(llama.model.norm(stream[-1]), output.hidden_states[-1], atol=1e-6)


def test_each_layer_adds_what_it_writes(model: PreTrainedModel) -> None:
    """A layer whose weights are zero leaves the stream as it was."""
    architecture = find_architecture(model)
    with torch.no_grad():
        for writer in architecture.writers:
            if writer.layer == 1:
                for one in writer.parameters:
                    model.get_submodule(writer.module).get_parameter(one.name).zero_()
        with resid_of(model, architecture) as stream:
            model(TOKENS)
    assert torch.equal(stream[2], stream[1])
    assert not torch.equal(stream[3], stream[2])


def test_what_is_kept_is_chosen_as_soon_as_it_is_there(llama: PreTrainedModel) -> None:
    architecture = find_architecture(llama)
    with torch.no_grad(), resid_of(llama, architecture) as whole:
        llama(TOKENS)
    with torch.no_grad(), resid_of(llama, architecture, lambda stream: stream[:, -1]) as last:
        llama(TOKENS)
    assert all(torch.equal(one, stream[:, -1]) for one, stream in zip(last, whole, strict=True))


def test_a_layer_that_is_left_out_leaves_the_stream_as_it_was(llama: PreTrainedModel) -> None:
    architecture = find_architecture(llama)
    layers = llama.model.layers
    with torch.no_grad(), resid_of(llama, architecture) as stream:
        llama.model.layers = torch.nn.ModuleList([layers[0], layers[2], layers[3]])
        llama.config.num_hidden_layers = 3
        llama(TOKENS, use_cache=False)
    assert torch.equal(stream[1], stream[2])
    assert not torch.equal(stream[2], stream[3])


def test_a_stream_that_cannot_be_seen_is_an_error(llama: PreTrainedModel) -> None:
    with (
        pytest.raises(ArchitectureError, match=r"model\.layers\.3: the model computes without calling it"),
        resid_of(llama, find_architecture(llama)),
    ):
        pass


def test_lanes_are_an_axis_of_their_own() -> None:
    stream = torch.arange(24.0).reshape(1, 2, 12)
    assert lanes(stream, 12) is stream
    assert torch.equal(lanes(stream, 4)[0, 1], stream[0, 1].reshape(3, 4))
    apart = torch.randn(1, 2, 3, 4)
    assert lanes(apart, 4) is apart


def test_streams_of_a_clone_are_in_float64() -> None:
    clone = random_clone(*class_and_config("llama", published_config("llama")))
    architecture, inputs = find_architecture(clone), clone_inputs(clone)
    stream = clone_streams(clone, architecture, inputs)
    assert {one.dtype for one in stream} == {torch.float64}
    assert len(stream) == architecture.depth + 1
    with pytest.raises(ArchitectureError, match="its small clone does not run"):
        clone_streams(clone, architecture, {"inputs_embeds": torch.randn(1, 3, 7)})
