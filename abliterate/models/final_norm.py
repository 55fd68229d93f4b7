"""What a model's final norm makes of vectors of the residual stream: any model's own, whatever it is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture
from abliterate.architectures.eager import eager
from abliterate.errors import ArchitectureError
from abliterate.models.batches import Batch, model_device
from abliterate.models.forward import final_hidden

AT_ONCE = 32
"""Vectors in one pass, each in the place of a token: fewer than any model reads."""


def behind_final_norm(
    model: PreTrainedModel, architecture: Architecture, rows: Float[Tensor, "rows d_model"]
) -> Float[Tensor, "rows d_model"]:
    """Return what the head would read if each row were `resid[L]`, in float32.

    The layers do not run: the last one hands out the rows. Raises ArchitectureError for a stream of several lanes.
    """
    layers = [model.get_submodule(name) for name in architecture.layers]
    made: list[Any] = []
    with eager():
        handle = layers[-1].register_forward_hook(lambda module, args, output: made.append(output))
        try:
            final_hidden(model, of_length(model, 1))
        finally:
            handle.remove()
        several = isinstance(made[0], tuple)
        usual = made[0][0] if several else made[0]
        if tuple(usual.shape) != (1, 1, architecture.d_model):
            raise ArchitectureError(
                f"{architecture.model_type}: its residual stream has the shape {tuple(usual.shape)} for one token, so that "
                "a direction has no place behind its norm"
            )
        parts = []
        for part in torch.split(rows, AT_ONCE):
            stream = part[None].to(usual)
            with handing_out((stream, *made[0][1:]) if several else stream, layers):
                parts.append(final_hidden(model, of_length(model, len(part)))[0].float().cpu())
    return torch.cat(parts)


def of_length(model: PreTrainedModel, length: int) -> Batch:
    """Return a batch of one row of that many tokens, whichever."""
    device = model_device(model)
    tokens = torch.zeros(1, length, dtype=torch.long, device=device)
    return Batch((0,), tokens, torch.tensor([length], device=device))


@contextmanager
def handing_out(output: Any, layers: list[nn.Module]) -> Iterator[None]:
    """Inside the context each layer returns `output` and computes nothing."""
    own = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            vars(layer)["forward"] = lambda *args, **kwargs: output
        yield
    finally:
        for layer, before in zip(layers, own, strict=True):
            vars(layer).pop("forward")
            if before is not None:
                vars(layer)["forward"] = before
