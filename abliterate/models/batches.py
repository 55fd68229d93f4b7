"""Prompts as batches: sorted by length, the shared prefix apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from abliterate.errors import InputError
from abliterate.models.offload import streaming_of

BatchSize = Literal["auto"] | int

BATCH_TOKENS = {"cpu": 2048, "cuda": 32768, "mps": 4096}
"""Tokens in one forward with automatic batches: enough to fill the machine, little enough to keep memory small.

A model whose layers stream from the disk says itself how many: each forward reads them all, so as many as fit."""

PADDING = 0.1
"""Share of a batch that padding may take before the batch is cut (not where each batch reads the checkpoint)."""


@dataclass(frozen=True)
class Batch:
    """Prompts of like length, padded on the right; `rows` are their places in the caller's list."""

    rows: tuple[int, ...]
    tokens: Int[Tensor, "batch length"]
    lengths: Int[Tensor, " batch"]

    def repeat(self, times: int) -> Batch:
        """Return the whole batch `times` over, copy after copy."""
        return Batch(self.rows * times, self.tokens.repeat(times, 1), self.lengths.repeat(times))


@dataclass(frozen=True)
class PreparedPrompts:
    """Token ids of prompts, cut into the prefix that all share and batches of what is their own."""

    prefix: tuple[int, ...]
    batches: tuple[Batch, ...]
    count: int


def model_device(model: PreTrainedModel) -> torch.device:
    """Return where inputs go: the device of the token embedding."""
    return cast(torch.device, model.get_input_embeddings().weight.device)


def shared_prefix(sequences: Sequence[Sequence[int]], keep: int) -> int:
    """Return how many first tokens all sequences share, leaving each at least `keep` of its own."""
    limit = min(len(sequence) for sequence in sequences) - keep
    for place in range(max(0, limit)):
        if len({sequence[place] for sequence in sequences}) > 1:
            return place
    return max(0, limit)


def prepare_batches(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    batch_size: BatchSize = "auto",
    *,
    keep: int = 1,
    copies: int = 1,
    share: bool = True,
) -> PreparedPrompts:
    """Sort `sequences` by length and cut them into batches; `copies` is how often each batch will be repeated.

    `keep` is how many last tokens of each sequence must not go into the shared prefix; `share` says whether there
    shall be one. Raises InputError for a batch size below 1.
    """
    check_batch_size(batch_size)
    device = model_device(model)
    start = len(common_prefix(model, sequences, keep)) if share else 0
    order = sorted(range(len(sequences)), key=lambda place: (-len(sequences[place]), place))
    batches = []
    lengths = [len(sequence) - start for sequence in sequences]
    for rows in cut(order, lengths, batch_size, token_budget(model), copies, streaming_of(model) is None):
        longest = len(sequences[rows[0]]) - start
        tokens = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            own = torch.tensor(sequences[row][start:], dtype=torch.long)
            tokens[place, : len(own)] = own
        own_lengths = torch.tensor([lengths[row] for row in rows])
        batches.append(Batch(tuple(rows), tokens.to(device), own_lengths.to(device)))
    return PreparedPrompts(tuple(sequences[0][:start]), tuple(batches), len(sequences))


def common_prefix(model: PreTrainedModel, sequences: Sequence[Sequence[int]], keep: int = 1) -> tuple[int, ...]:
    """Return the first tokens that all sequences share, where computing them once pays and the model's cache allows it."""
    if len(sequences) < 2 or not can_share_prefix(model):
        return ()
    return tuple(sequences[0][: shared_prefix(sequences, keep)])


def check_batch_size(batch_size: BatchSize) -> None:
    """Raise InputError for a batch size below 1."""
    if batch_size != "auto" and batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: give a number of prompts from 1 up, or auto")


def token_budget(model: PreTrainedModel) -> int:
    """Return how many tokens one forward may carry with automatic batches."""
    streaming = streaming_of(model)
    return streaming.tokens if streaming else BATCH_TOKENS.get(model_device(model).type, BATCH_TOKENS["cpu"])


def cut(
    order: Sequence[int], lengths: Sequence[int], batch_size: BatchSize, budget: int, copies: int, spare_padding: bool
) -> Iterator[list[int]]:
    """Yield runs of `order` (longest first) that fit a batch and, where asked for, waste little on padding."""
    batch: list[int] = []
    padding = 0
    for row in order:
        longest = lengths[batch[0]] if batch else lengths[row]
        size = len(batch) + 1
        waste = padding + longest - lengths[row]
        if batch_size == "auto":
            full = size * copies * longest > budget or (spare_padding and size > 8 and waste > PADDING * size * longest)
        else:
            full = size > batch_size
        if batch and full:
            yield batch
            batch, padding, longest = [], 0, lengths[row]
            waste = 0
        batch.append(row)
        padding = waste
    if batch:
        yield batch


def can_share_prefix(model: PreTrainedModel) -> bool:
    """Whether the model's cache is plain keys and values, which can be copied and repeated row by row.

    Where layers stream from the disk it is not worth it: the prefix would take a pass of its own.
    """
    if getattr(model, "_is_stateful", False) or streaming_of(model) is not None:
        return False
    cache = DynamicCache(config=model.config)
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
