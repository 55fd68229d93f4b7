"""Replies: what the head is given, and when they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel

from abliterate.models.generation import CIRCLE, CIRCLE_EVERY, CIRCLES, Circling, contiguous_head, generate
from abliterate.storage.record_log import RecordLog
from fixtures.tiny_chat import TINY


def test_the_head_is_given_its_rows_in_one_piece(llama: PreTrainedModel) -> None:
    """A slice of the last positions would make torch copy the whole head, once a row."""
    head = llama.get_output_embeddings()
    seen: list[bool] = []

    class Watched(nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            seen.append(hidden.is_contiguous())
            return head(hidden)

    llama.set_output_embeddings(Watched())
    config = GenerationConfig(max_new_tokens=2, do_sample=False, pad_token_id=0)
    tokens = torch.arange(1, 13).reshape(3, 4)
    llama.generate(tokens, generation_config=config)
    assert not all(seen), "transformers gives it whole by now: the context is not needed any more"
    seen.clear()
    with contiguous_head(llama):
        llama.generate(tokens, generation_config=config)
    assert seen
    assert all(seen)
    seen.clear()
    llama.generate(tokens, generation_config=config)
    assert not all(seen), "the context leaves nothing behind"


@pytest.mark.slow
def test_a_reply_that_goes_in_circles_ends_early(llama: PreTrainedModel) -> None:
    """It is the beginning of the reply that is not ended, and ends in a circle; what does not circle is left alone."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)  # for its end tokens only
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # a model that mostly says again what it has seen last
        for layer in llama.model.layers:
            layer.self_attn.o_proj.weight *= 0.05
            layer.mlp.down_proj.weight *= 0.05
        llama.get_output_embeddings().weight.copy_(llama.get_input_embeddings().weight * 3)
        llama.get_output_embeddings().weight[0] = 0  # padding is never said
    prompts = torch.randint(3, 97, (12, 6), generator=generator).tolist()
    long = 4 * CIRCLE
    ended = generate(llama, tokenizer, prompts, long)
    config = GenerationConfig(max_new_tokens=long, do_sample=False, pad_token_id=0, eos_token_id=2)
    circled = 0
    for prompt, reply in zip(prompts, ended, strict=True):
        whole = llama.generate(torch.tensor([prompt]), generation_config=config)[0, len(prompt) :].tolist()
        whole = whole[: whole.index(2)] if 2 in whole else whole
        assert reply == whole[: len(reply)]
        if len(reply) < len(whole):
            circled += 1
            tail = reply[-CIRCLE:]
            assert any(tail[period:] == tail[:-period] for period in range(1, CIRCLE // CIRCLES + 1))
    assert circled


@given(st.integers(1, CIRCLE // CIRCLES), st.integers(0, 40), st.booleans())
def test_only_circles_end_a_row(period: int, before: int, broken: bool) -> None:
    row = list(range(100, 100 + before)) + [place % period for place in range(CIRCLE)]
    row = row[len(row) % CIRCLE_EVERY :]
    if broken:
        row[-1] = 99
    ended = Circling(0)(torch.tensor([row]), None)
    assert ended.tolist() == [len(row) >= CIRCLE and not broken]


def test_a_prompt_that_goes_in_circles_is_no_reply() -> None:
    assert not Circling(CIRCLE)(torch.zeros(1, CIRCLE + CIRCLE_EVERY, dtype=torch.long), None).any()


def test_replies_belong_to_their_batch_their_limit_and_what_is_shared(llama: PreTrainedModel, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)  # for its end tokens only
    prompts = torch.randint(3, 97, (6, 7), generator=torch.Generator().manual_seed(0)).tolist()
    alike = [[5, 6, 7, *prompt] for prompt in prompts]
    asked: tuple[tuple[Any, ...], ...] = (
        (prompts, 8), (prompts, 9), (prompts[:5], 8), (prompts[::-1][:5], 8), (alike, 8), ([*alike, *prompts], 8),
    )  # fmt: skip
    for size in (2, 3):
        for texts, limit in asked:
            expected = generate(llama, tokenizer, texts, limit, batch_size=size)
            records = RecordLog(tmp_path / "replies.jsonl")
            assert generate(llama, tokenizer, texts, limit, batch_size=size, kept=records) == expected
            before = len(records)
            again = generate(llama, tokenizer, texts, limit, batch_size=size, kept=RecordLog(records.path))
            assert again == expected
            assert len(RecordLog(records.path)) == before
