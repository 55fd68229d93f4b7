"""Adding a vector from a layer on, the same for all rows or one of its own for each."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.errors import InputError
from abliterate.interventions.addition import added, added_rows
from abliterate.proofs.stream import streams
from fixtures.interventions import SEQUENCES, logits


def test_addition_shifts_the_stream_from_its_layer_on(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    architecture = find_architecture(llama)
    before = streams(llama, architecture, SEQUENCES)
    with added(llama, 3 * direction, 2):
        after = streams(llama, architecture, SEQUENCES)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert torch.allclose(after[2] - before[2], (3 * direction).expand_as(before[2]), atol=1e-5)
    assert not torch.allclose(after[3], before[3] + 3 * direction, atol=1e-3)


def test_a_layer_out_of_range_is_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    with pytest.raises(InputError, match="out of range"), added(llama, direction, 4):
        pass


def test_the_scale_of_an_addition_scales_its_vector(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    with added(llama, -2.5 * direction, 2):
        long = logits(llama)
    with added(llama, direction, 2, scale=-2.5):
        assert torch.equal(logits(llama), long)
    before = logits(llama)
    with added(llama, direction, 2, scale=0.0):
        assert torch.equal(logits(llama), before)


def test_rows_carry_their_own_vector_and_layer(model: PreTrainedModel) -> None:
    vectors = torch.randn(3, 48)
    with added_rows(model, vectors, [1, 3, 1]):
        together = logits(model)
    for row, layer in enumerate([1, 3, 1]):
        with added(model, vectors[row], layer):
            alone = logits(model)
        assert torch.allclose(together[row], alone[row], atol=1e-4 * float(alone.abs().max()))
