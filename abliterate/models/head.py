"""The head of a language model, applied where logits are needed and nowhere else; divergence of what it predicts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.errors import InputError
from abliterate.models.forward import body_of

HEAD_ROWS = 64
"""Rows of logits to compute at once where there are many: 64 rows of a 256k vocabulary are 64 MiB in float32."""

NOT_NUMBERS = "the model's logits are NaN or infinite; try --dtype float32, or check the checkpoint"
"""What is wrong with a prompt whose figures cannot be made."""


class _GivenOutput(tuple[Tensor]):
    """An output of the decoder that holds the hidden state, and None for whatever else a head asks for.

    A head reads the hidden state by its name or as the first of a tuple. It is no subclass of transformers' own output,
    whose fields are declared float32 in some versions: half of all models are not.
    """

    @property
    def last_hidden_state(self) -> Tensor:
        """Return the hidden state."""
        return self[0]

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
        return _GivenOutput((self.hidden,))


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
            # The decoder's stand-in is part of a circle: what it holds, and the whole graph behind that, would stay until the
            # collector comes round.
            del self._decoder.hidden
            return cast(Tensor, logits[:, 0].float().log_softmax(-1))


def kl_divergence(original: Float[Tensor, "rows vocab"], edited: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
    """Return `KL(original || edited)` in nats, row by row, from log-probabilities.

    A token that the original cannot say (`-inf`) adds nothing, whatever the edited model makes of it. One that only the
    edited model cannot say makes the divergence infinite, and NaN in either makes it NaN: see `check_numbers`.
    """
    impossible = original.isneginf()
    terms = original.exp() * (original - edited).masked_fill(impossible, 0.0)
    return terms.masked_fill(~impossible & edited.isneginf(), torch.inf).sum(-1)


def check_numbers(values: Float[Tensor, "prompts *rest"], name: Callable[[int], str] = "prompt {}".format) -> None:
    """Raise InputError naming the first prompt, counted from 1, of whose logits something came that is no finite number."""
    finite = torch.isfinite(values).reshape(len(values), -1).all(-1).tolist()
    if not all(finite):
        raise InputError(f"{name(finite.index(False) + 1)}: {NOT_NUMBERS}")
