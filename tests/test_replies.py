"""Replies: what the head is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from abliterate.replies import contiguous_head


def test_the_head_is_given_its_rows_in_one_piece(llama: PreTrainedModel) -> None:
    """A slice of the last positions would make torch copy the whole head, once a row."""
    head = llama.get_output_embeddings()
    given: list[bool] = []

    class Watched(nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            given.append(hidden.is_contiguous())
            return head(hidden)

    llama.set_output_embeddings(Watched())
    config = GenerationConfig(max_new_tokens=2, do_sample=False, pad_token_id=0)
    tokens = torch.arange(1, 13).reshape(3, 4)
    llama.generate(tokens, generation_config=config)
    assert not all(given), "transformers gives it whole by now: the context is not needed any more"
    given.clear()
    with contiguous_head(llama):
        llama.generate(tokens, generation_config=config)
    assert given
    assert all(given)
    given.clear()
    llama.generate(tokens, generation_config=config)
    assert not all(given), "the context leaves nothing behind"
