"""Passes over many prompts."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.models.batches import prepare_batches
from abliterate.models.forward import at_positions, final_hidden, prefix_cache
from fixtures.sequences import PREFIX, SEQUENCES


@pytest.mark.parametrize("batch_size", ["auto", 1, 2])
def test_batches_and_prefix_change_nothing(model: PreTrainedModel, batch_size: int | str) -> None:
    prepared = prepare_batches(model, SEQUENCES, batch_size)  # type: ignore[arg-type]
    assert prepared.prefix == tuple(PREFIX)
    cache = prefix_cache(model, prepared.prefix)
    found = torch.empty(len(SEQUENCES), 48)
    for batch in prepared.batches:
        hidden = final_hidden(model, batch, cache)
        found[list(batch.rows)] = at_positions(hidden, batch, [-1])[:, 0]
    with torch.no_grad():
        alone = torch.stack([model.base_model(torch.tensor([sequence]))[0][0, -1] for sequence in SEQUENCES])
    assert torch.allclose(found, alone, atol=1e-4)


def test_the_cache_can_be_used_again(llama: PreTrainedModel) -> None:
    prepared = prepare_batches(llama, SEQUENCES)
    cache = prefix_cache(llama, prepared.prefix)
    first = final_hidden(llama, prepared.batches[0], cache)
    assert torch.equal(first, final_hidden(llama, prepared.batches[0], cache))
