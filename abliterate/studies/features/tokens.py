"""The states of many tokens at one layer: what an SAE is trained on, and where features are looked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache

from abliterate.activations.capture import merged
from abliterate.errors import InputError
from abliterate.interventions.hooks import at_resid, hooks_of
from abliterate.models.batches import Batch, prepare_batches
from abliterate.models.forward import final_hidden, prefix_cache
from abliterate.models.live_model import LiveModel

Tokens = tuple[int, ...]


class Reached(Exception):
    """The layer is reached: those above it need not run."""


@dataclass(frozen=True)
class Span:
    """Token ids, and the indices of those whose states are asked for, ascending."""

    tokens: Tokens
    places: tuple[int, ...]


@dataclass(frozen=True)
class TokenStates:
    """States in the order of their spans; `text` and `place` say which token of which span each is of."""

    states: Float[Tensor, "tokens d_model"]
    text: Int[Tensor, " tokens"]
    place: Int[Tensor, " tokens"]

    def of(self, text: int) -> Float[Tensor, "own d_model"]:
        """Return those of one text."""
        return self.states[self.text == text]


def capture_tokens(live: LiveModel, spans: Sequence[Span], layer: int, file: Path | None = None) -> TokenStates:
    """Return `resid[layer]` at the places of all spans, in the model's dtype; in `file`, mapped into memory, where it is given.

    Interventions inside of the model take part. Raises InputError for a layer that is not there, nothing to capture, and NaN
    or infinite states, naming the text.
    """
    return capture_layers(live, spans, [layer], file)[layer]


def capture_layers(
    live: LiveModel, spans: Sequence[Span], layers: Sequence[int], file: Path | None = None
) -> dict[int, TokenStates]:
    """Do `capture_tokens` for several layers, in one pass of each text; `file` is for one layer alone."""
    for layer in layers:
        if not 0 <= layer <= live.architecture.depth:
            raise InputError(
                f"--layer {layer} is out of range; the model has resid[0] to resid[{live.architecture.depth}]"
            )
    total = sum(len(one.places) for one in spans)
    if not total or not layers:
        raise InputError(f"there is nothing to capture: {len(spans)} texts without a token; give other texts")
    states = {layer: room_for(total, live.architecture.d_model, live.model.dtype, file) for layer in layers}
    begins = torch.tensor([0, *(len(one.places) for one in spans)]).cumsum(0).tolist()
    keep = max(1, *(len(one.tokens) - one.places[0] for one in spans if one.places))
    with live.progress.step("capturing activations", len(spans), "texts") as advance:
        prepared = prepare_batches(live.model, [one.tokens for one in spans], live.batch_size, keep=keep)
        shared = prefix_cache(live.model, prepared.prefix)
        for batch in prepared.batches:
            for layer, stream in streams_at(live, batch, layers, shared).items():
                for row, text in enumerate(batch.rows):
                    places = torch.tensor(spans[text].places, dtype=torch.long) - len(prepared.prefix)
                    own = stream[row, places.to(stream.device)].to("cpu", live.model.dtype)
                    check_numbers(own, text, layer)
                    states[layer][begins[text] : begins[text + 1]] = own
            advance(len(batch.rows))
    of_text = torch.repeat_interleave(torch.arange(len(spans)), torch.tensor([len(one.places) for one in spans]))
    place = torch.tensor([place for one in spans for place in one.places])
    return {layer: TokenStates(own, of_text, place) for layer, own in states.items()}


def check_numbers(states: Float[Tensor, "tokens d_model"], text: int, layer: int) -> None:
    """Raise InputError, naming text and layer, for states that are no numbers."""
    if not bool(torch.isfinite(states).all()):
        raise InputError(
            f"the activations of text {text + 1} are NaN or infinite at resid[{layer}]; "
            "try --dtype float32, or check the checkpoint"
        )


def room_for(tokens: int, width: int, dtype: torch.dtype, file: Path | None) -> Float[Tensor, "tokens width"]:
    """Return where states go: memory, or a file that is mapped into it."""
    if file is None:
        return torch.empty(tokens, width, dtype=dtype)
    return torch.from_file(str(file), shared=True, size=tokens * width, dtype=dtype).view(tokens, width)


def streams_at(live: LiveModel, batch: Batch, layers: Sequence[int], shared: Cache | None) -> dict[int, Tensor]:
    """Return `resid[l]` of one pass, `[batch, length, d_model]`, which ends with the last of the layers: those above do not run."""
    seen: dict[int, Tensor] = {}
    last = max(layers)

    def taking(layer: int) -> Callable[[Tensor], Tensor]:
        def take(stream: Tensor) -> Tensor:
            seen[layer] = merged(stream, batch, live.architecture.d_model)
            if layer == last and layer < live.architecture.depth:
                raise Reached
            return stream

        return take

    with hooks_of() as hooks:
        for layer in sorted(set(layers)):
            hooks.callback(at_resid(live.model, live.architecture, layer, taking(layer)).remove)
        with suppress(Reached):
            final_hidden(live.model, batch, shared)
    return seen
