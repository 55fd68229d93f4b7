"""The upper part of a model, from one layer on: what gradients are taken through, without those of the layers below."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from abliterate.errors import InputError
from abliterate.interventions.hooks import at_resid, hooks_of
from abliterate.models.batches import Batch, model_device
from abliterate.models.forward import final_hidden, prefixes_cache
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.models.offload import streaming_of
from abliterate.studies.replies import Tokens


def padded(live: LiveModel, sequences: Sequence[Tokens]) -> Batch:
    """Return sequences as one batch in their order, padded on the right."""
    lengths = torch.tensor([len(one) for one in sequences])
    tokens = torch.zeros(len(sequences), int(lengths.max()), dtype=torch.long)
    for row, one in enumerate(sequences):
        tokens[row, : len(one)] = torch.tensor(one)
    device = model_device(live.model)
    return Batch(tuple(range(len(sequences))), tokens.to(device), lengths.to(device))


def check_gradients(
    live: LiveModel,
    what: str = "a vector that is optimised or attributed",
    way_out: str = "give more memory, or --vector dim,forward",
) -> None:
    """Raise InputError for a model whose layers come from the disk: no gradient goes through those."""
    if streaming_of(live.model) is not None:
        raise InputError(f"{what} needs gradients, and the layers of this model come from the disk; {way_out}")


class Upper:
    """Sequences whose stream below a layer is known: the layers from it on run, with what is asked added to the stream.

    `prefixes` are tokens, all of one length, that stand before sequences; they are read once, and nothing is added to them.
    `begins` says which of them stands before each sequence. Raises InputError as `check_gradients`.
    """

    def __init__(
        self,
        live: LiveModel,
        layer: int,
        sequences: Sequence[Tokens],
        prefixes: Sequence[Tokens] = (),
        begins: Sequence[int] | None = None,
    ) -> None:
        check_gradients(live)
        self.live, self.layer = live, layer
        self.batch = padded(live, sequences)
        with torch.no_grad():
            self._shared, self._begins = prefixes_cache(live.model, prefixes, gradient=True), begins
        self.head = Head(live.model)
        self._made: list[Any] = []
        kept: list[Tensor] = []

        def keep(stream: Tensor) -> Tensor:
            kept.append(stream.detach())
            return stream

        def look(module: nn.Module, args: Any, output: Any) -> None:
            self._made.append(output)

        with torch.no_grad(), hooks_of() as hooks:
            hooks.callback(at_resid(live.model, live.architecture, layer, keep).remove)
            below = live.model.get_submodule(live.architecture.layers[0])
            hooks.callback(below.register_forward_hook(look).remove)
            self.final = final_hidden(live.model, self.batch, self._shared, self._begins, gradient=True)
        self.stream: Float[Tensor, "rows length d_model"] = kept[0].clone()
        self._tuple = isinstance(self._made.pop(), tuple)

    def part(self, rows: Sequence[int]) -> Upper:
        """Return some of the sequences, ready to run by themselves."""
        own = copy.copy(self)
        own.batch = Batch(tuple(range(len(rows))), self.batch.tokens[rows], self.batch.lengths[rows])
        own._begins = [self._begins[row] for row in rows] if self._begins is not None else None
        own.stream, own.final = self.stream[rows], self.final[rows]
        return own

    def states(self, places: Int[Tensor, " rows"]) -> Float[Tensor, "rows d_model"]:
        """Return the stream at a place of each row."""
        return self.stream[torch.arange(len(self.stream)), places]

    def hidden(
        self, shift: Float[Tensor, "*rows d_model"], places: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows length d_model"]:
        """Return the final hidden states where `shift` is added to the stream at a place of each row; gradients reach it."""
        at = torch.zeros(self.stream.shape[:2], device=self.stream.device, dtype=self.stream.dtype)
        at[torch.arange(len(at)), places] = 1
        given = self.stream + at[:, :, None] * shift.to(self.stream)[..., None, :]
        with self._resumed(given):
            return final_hidden(self.live.model, self.batch, self._shared, self._begins, gradient=True)

    @contextmanager
    def _resumed(self, stream: Tensor) -> Iterator[None]:
        below = [self.live.model.get_submodule(name) for name in self.live.architecture.layers[: self.layer]]
        whole = [vars(module).get("forward") for module in below]

        def nothing(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            return (hidden_states,) if self._tuple else hidden_states

        with hooks_of() as hooks:
            hooks.callback(at_resid(self.live.model, self.live.architecture, self.layer, lambda _: stream).remove)
            try:
                for module in below:
                    vars(module)["forward"] = nothing
                yield
            finally:
                for module, own in zip(below, whole, strict=True):
                    vars(module).pop("forward")
                    if own is not None:
                        vars(module)["forward"] = own

    def log_likelihood(
        self, hidden: Float[Tensor, "rows length d_model"], targets: Sequence[Tokens]
    ) -> Float[Tensor, " rows"]:
        """Return the log-probability of the last tokens of each row, which are `targets`."""
        rows: list[Tensor] = []
        tokens: list[int] = []
        for row, target in enumerate(targets):
            end = int(self.batch.lengths[row])
            rows.append(hidden[row, end - len(target) - 1 : end - 1])
            tokens += target
        found = self.head.log_probs(torch.cat(rows), gradient=True)
        own = found.gather(1, torch.tensor(tokens, device=found.device)[:, None])[:, 0]
        return torch.stack([part.sum() for part in torch.split(own, [len(one) for one in targets])])

    def next_log_probs(self, hidden: Float[Tensor, "rows length d_model"]) -> Float[Tensor, "rows vocab"]:
        """Return what is predicted after the last token of each row."""
        ends = self.batch.lengths - 1
        return self.head.log_probs(hidden[torch.arange(len(hidden)), ends], gradient=True)
