"""Runs templated prompts through a model with little work wasted.

Prompts are sorted by length and padded on the right, the prefix that all of them share is computed once, no
logits are computed where none are needed, and where they are, as one contiguous two-dimensional product.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from inspect import signature
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel

from abliterate.models.batches import Batch, model_device


def body_of(model: PreTrainedModel) -> tuple[str, nn.Module]:
    """Return the model without its head, and its name: the largest part that holds the token embedding but no head."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    name, body = "", cast(nn.Module, model)
    while body is model or head in set(body.modules()):
        child, body = next((child, own) for child, own in body.named_children() if embedding in set(own.modules()))
        name = f"{name}.{child}" if name else child
    return name, body


def prefix_cache(
    model: PreTrainedModel, prefix: Sequence[int], rows: int = 1, *, gradient: bool = False
) -> Cache | None:
    """Return the keys and values of the shared prefix for `rows` rows; None when nothing is shared.

    Under an intervention whose rows differ, call this inside it, with as many rows as it has directions. Here and
    below, `gradient` says whether autograd shall follow.
    """
    return prefixes_cache(model, [prefix] * rows, gradient=gradient)


def prefixes_cache(
    model: PreTrainedModel, prefixes: Sequence[Sequence[int]], *, gradient: bool = False
) -> Cache | None:
    """Return the keys and values of prefixes of one length, a row for each; None where they are empty."""
    if not prefixes or not prefixes[0]:
        return None
    tokens = torch.tensor([list(prefix) for prefix in prefixes], device=model_device(model))
    cache = DynamicCache(config=model.config)
    with torch.inference_mode(not gradient):
        body_of(model)[1](input_ids=tokens, past_key_values=cache, use_cache=True)
    return cache


def repeated_cache(cache: Cache | None, count: int, rows: Sequence[int] | None = None) -> Cache | None:
    """Return a copy of a prefix's cache for a batch: row `b` continues its row `rows[b]`, the only one by default."""
    if cache is None:
        return None
    past = copy.copy(cache)
    past.layers = [copy.copy(layer) for layer in cache.layers]  # the tensors are replaced, never written to
    past.batch_select_indices(torch.tensor(rows or [0] * count))
    return past


def final_hidden(
    model: PreTrainedModel,
    batch: Batch,
    cache: Cache | None = None,
    rows: Sequence[int] | None = None,
    *,
    gradient: bool = False,
) -> Float[Tensor, "batch length d_model"]:
    """Run the model without its head; return what the head would read (after the final norm).

    `cache` is the shared prefix (left as it is); `rows[b]` says which of its rows batch row `b` continues.
    """
    count, length = batch.tokens.shape
    places = torch.arange(length, device=batch.tokens.device)
    mask = (places < batch.lengths[:, None]).long()
    past = repeated_cache(cache, count, rows)
    if past is not None:
        before = torch.ones(count, past.get_seq_length(), dtype=torch.long, device=mask.device)
        mask = torch.cat([before, mask], dim=1)
    extra = {}
    _, body = body_of(model)
    if "position_ids" in signature(body.forward).parameters:
        # Given row by row, so that learned position embeddings too have a row for each of the batch.
        extra["position_ids"] = (places + mask.shape[1] - length).expand(count, -1)
    with torch.inference_mode(not gradient):
        output = body(
            input_ids=batch.tokens, attention_mask=mask, past_key_values=past, use_cache=past is not None, **extra
        )
    return cast(Tensor, output[0])


def at_positions(
    stream: Float[Tensor, "batch length d_model"], batch: Batch, positions: Sequence[int]
) -> Float[Tensor, "batch positions d_model"]:
    """Return the vectors at `positions` (negative, from each row's last real token)."""
    places = batch.lengths[:, None] + torch.tensor(positions, device=batch.lengths.device)
    return stream[torch.arange(len(stream), device=stream.device)[:, None], places.to(stream.device)]
