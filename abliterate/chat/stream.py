"""Token after token of one model: keys and values stay from one token, and one turn, to the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from abliterate.errors import InputError
from abliterate.models.batches import model_device, shared_prefix
from abliterate.models.head import NOT_NUMBERS

Choose = Callable[[Float[Tensor, " vocab"]], int]
"""Takes the logits of the next token, returns the token."""

Kept = Literal["all", "steps", "nothing"]


class Reader:
    """Reads sequences of token ids with one model, and does not read again what it read before.

    `active` gives the context in which the model is what this reader reads with (hooks, an adapter). It is entered for
    each forward pass and left after it, so that others can use the same weights in between.
    """

    def __init__(
        self, model: PreTrainedModel, active: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self.model = model
        self.active = active
        self.kept = what_stays(model)
        self._parameters = signature(model.forward).parameters
        self._cache: Cache | None = None
        self._read: tuple[int, ...] = ()

    def forget(self) -> None:
        """Drop the keys and values."""
        self._cache, self._read = None, ()

    def logits(self, ids: Sequence[int]) -> Float[Tensor, " vocab"]:
        """Return the logits of the token after `ids`, in float32. Raises InputError when they are NaN or infinite."""
        cache, start = self._continued(ids)
        self.forget()  # a pass that is broken off leaves a cache that is half-written: it is not kept
        device = model_device(self.model)
        own = torch.tensor([list(ids[start:])], device=device)
        extra = {"logits_to_keep": 1} if "logits_to_keep" in self._parameters else {}
        if cache is not None:
            extra |= {"past_key_values": cache}
        with self.active(), torch.inference_mode():
            output = self.model(
                input_ids=own,
                attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=device),
                use_cache=cache is not None,
                **extra,
            )
        logits = cast(Tensor, output.logits)[0, -1].float()
        if not bool(torch.isfinite(logits.max())):  # NaN where one is; of -inf there may be some, but not all
            raise InputError(NOT_NUMBERS)
        self._cache, self._read = cache, tuple(ids)
        return logits

    def _continued(self, ids: Sequence[int]) -> tuple[Cache | None, int]:
        """Return the cache to go on with, and how many first tokens of `ids` it holds; one token is always read."""
        if self.kept == "nothing":
            return None, 0
        known = shared_prefix([self._read, ids], 0) if self._read else 0
        known = min(known, len(ids) - 1)
        if self._cache is not None and known and self._fits(known, len(ids)) and cut_reply(self._cache, known):
            return self._cache, known
        return DynamicCache(config=self.model.config), 0

    def _fits(self, known: int, length: int) -> bool:
        # Recurrent states go forward only, and not every model goes on from one by more than a token.
        return self.kept == "all" or (known == len(self._read) and length == known + 1)


def what_stays(model: PreTrainedModel) -> Kept:
    """Say what can stay of a sequence that was read: `all` of it, a state that goes on in `steps` of one token, `nothing`.

    The second is what models with linear attention or state spaces have; the third, models with caches of their own:
    for each token they read everything again.
    """
    layers = DynamicCache(config=model.config).layers
    if "past_key_values" not in signature(model.forward).parameters or not model._supports_default_dynamic_cache():
        return "nothing"
    if not getattr(model, "_is_stateful", False) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers
    ):
        return "all"
    return "steps" if any(isinstance(layer, DynamicLayer) for layer in layers) else "nothing"


def cut_reply(cache: Cache, length: int) -> bool:
    """Shorten a cache to its first `length` tokens; return False where they are not all there any more.

    A sliding window that was filled has dropped its oldest tokens, which those before the cut would need.
    """
    if cache.get_seq_length() == length:
        return True
    for layer in cache.layers:
        if layer.keys.shape[-2] != layer.get_seq_length():
            return False
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = length
    return True


def tokens(reader: Reader, ids: Sequence[int], ends: Collection[int], limit: int, choose: Choose) -> Iterator[int]:
    """Yield the tokens of the reply to `ids`, without the one that ends it, at most `limit`."""
    sequence = list(ids)
    for _ in range(limit):
        token = choose(reader.logits(sequence))
        if token in ends:
            return
        yield token
        sequence.append(token)


def greedy(logits: Float[Tensor, " vocab"]) -> int:
    """Return the most probable token."""
    return int(logits.argmax())


def sampler(temperature: float, seed: int) -> Choose:
    """Return what chooses: at temperature 0 the most probable token, else one drawn from softmax(logits / temperature).

    Draws are made on the CPU: the same seed draws alike on every device, and on both sides of a comparison.
    """
    if not temperature:
        return greedy
    generator = torch.Generator().manual_seed(seed)

    def choose(logits: Float[Tensor, " vocab"]) -> int:
        return int(torch.multinomial((logits.cpu() / temperature).softmax(-1), 1, generator=generator))

    return choose
