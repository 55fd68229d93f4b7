"""Runs templated prompts through a model with little work wasted.

Prompts are sorted by length and padded on the right, the prefix that all of them share is computed once, no
logits are computed where none are needed, and where they are, as one contiguous two-dimensional product.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

from abliterate.errors import InputError
from abliterate.models.offload import streaming_of

BatchSize = Literal["auto"] | int

TOKENS = {"cpu": 2048, "cuda": 32768, "mps": 4096}
"""Tokens in one forward with automatic batches: enough to fill the machine, little enough to keep memory small.

A model whose layers stream from the disk says itself how many: each forward reads them all, so as many as fit."""

HEAD_ROWS = 64
"""Rows of logits to compute at once where there are many: 64 rows of a 256k vocabulary are 64 MiB in float32."""

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
class Prompts:
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


def prepare(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    batch_size: BatchSize = "auto",
    *,
    keep: int = 1,
    copies: int = 1,
    share: bool = True,
) -> Prompts:
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
    return Prompts(tuple(sequences[0][:start]), tuple(batches), len(sequences))


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
    return streaming.tokens if streaming else TOKENS.get(model_device(model).type, TOKENS["cpu"])


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
    if not prefix:
        return None
    tokens = torch.tensor([list(prefix)] * rows, device=model_device(model))
    cache = DynamicCache(config=model.config)
    with torch.inference_mode(not gradient):
        body_of(model)[1](input_ids=tokens, past_key_values=cache, use_cache=True)
    return cache


def repeated(cache: Cache | None, count: int, rows: Sequence[int] | None = None) -> Cache | None:
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
    past = repeated(cache, count, rows)
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


class _GivenOutput(BaseModelOutputWithPast):  # type: ignore[misc]
    """An output of the decoder that holds the hidden state, and None for whatever else a head asks for."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _GivenHidden(nn.Module):
    """Stands in for the decoder inside a shell of the model, so that only the head runs.

    `path` is how the model reaches its decoder below the module that this one replaces; scales that a head
    reads from `replaced` stay.
    """

    hidden: Tensor

    def __init__(self, replaced: nn.Module, path: Sequence[str]) -> None:
        super().__init__()
        vars(self).update({name: value for name, value in vars(replaced).items() if isinstance(value, int | float)})
        vars(self).update(dict.fromkeys(path, self))

    def forward(self, *args: Any, **kwargs: Any) -> _GivenOutput:
        return _GivenOutput(last_hidden_state=self.hidden)


def own_copy(module: nn.Module) -> Any:
    """Return a shallow copy of a module whose forward is its own.

    accelerate puts a wrapped forward, which is bound to the module, on each that it dispatches.
    """
    copied = copy.copy(module)
    vars(copied).pop("forward", None)
    return copied


class Head:
    """The head of a model: from the final hidden state to logits, with every scale and cap of the model's own.

    It is the model's own forward with the decoder taken out, and keeps only the head's weights alive.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        name, body = body_of(model)
        decoder = next((name for name, module in body.named_modules() if module is model.get_decoder()), "")
        self._decoder = _GivenHidden(body, decoder.split("."))
        self._shell = shell = own_copy(model)
        *parents, last = name.split(".")
        for parent in parents:
            inner = own_copy(cast(nn.Module, shell._modules[parent]))
            shell._modules = {**shell._modules, parent: inner}
            shell = cast(PreTrainedModel, inner)
        shell._modules = {**shell._modules, last: self._decoder}

    def log_probs(
        self, hidden: Float[Tensor, "rows d_model"], *, gradient: bool = False
    ) -> Float[Tensor, "rows vocab"]:
        """Return log-probabilities in float32. All rows at once: split long lists with `HEAD_ROWS`."""
        with torch.inference_mode(not gradient):
            self._decoder.hidden = hidden[:, None].contiguous()
            tokens = torch.zeros(len(hidden), 1, dtype=torch.long, device=hidden.device)
            logits = self._shell(input_ids=tokens).logits
            return cast(Tensor, logits[:, 0].float().log_softmax(-1))
