"""What the interventions are made of: changes of the stream, row by row, and the hooks that make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture
from abliterate.architectures.eager import eager
from abliterate.errors import InputError
from abliterate.projection import Amount, Mixing, project_out

Strength = float | Float[Tensor, "..."]
"""A number, a tensor of no dimension that a search follows by gradient, one strength for each basis `[bases]` or for each
of its rows `[bases, k]`, or how these mix `[bases, k, k]` (`projection.span_edit`); one basis serves all."""

Change = Callable[[Tensor], Tensor]
"""Gives what becomes of a tensor of vectors, `[rows, ..., width]`, in the same shape and dtype."""


@contextmanager
def hooks_of() -> Iterator[ExitStack]:
    """Collect what removes hooks, and do it in the end, however that comes; compiled code runs eagerly meanwhile."""
    with eager(), ExitStack() as hooks:
        yield hooks


def at_output(module: nn.Module, change: Change) -> RemovableHandle:
    """Hook a module so that its output (the first, if it has several) is changed."""
    return module.register_forward_hook(lambda module, args, output: on_first(output, change))


def at_input(module: nn.Module, change: Change) -> RemovableHandle:
    """Hook a module so that its first input is changed."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def at_resid(model: PreTrainedModel, architecture: Architecture, layer: int, change: Change) -> RemovableHandle:
    """Hook the model so that `resid[layer]` is changed: what layer `layer` reads, or at `layer = L` what the last wrote."""
    if layer == architecture.depth:
        return at_output(model.get_submodule(architecture.layers[-1]), change)
    return at_input(model.get_submodule(architecture.layers[layer]), change)


def check_stream_layer(layer: int, last: int) -> None:
    """Raise InputError for a layer that is not among those from 0 to `last`."""
    if not 0 <= layer <= last:
        raise InputError(f"layer {layer} is out of range; the model has layers 0 to {last}")


def check_finite(values: float | Tensor, what: str, *, infinite: bool = False) -> None:
    """Raise InputError for numbers that are NaN, and unless `infinite` is allowed, for infinity."""
    found = torch.as_tensor(values)
    if bool(found.isnan().any()) or not (infinite or bool(torch.isfinite(found).all())):
        raise InputError(f"{what} holds NaN{'' if infinite else ' or infinity'}; give finite numbers")


def on_first(output: Any, change: Change) -> Any:
    """Return a module's output with `change` applied to it, or to the first of several."""
    return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


def in_runs(stream: Float[Tensor, "rows ... width"], vectors: Float[Tensor, "vectors d_model"]) -> Tensor:
    """Return the stream as float32 `[vectors, more, d_model]`: the rows that each of `vectors` serves, in one run.

    Raises InputError when the rows cannot be shared out evenly.
    """
    if len(stream) % len(vectors):
        raise InputError(
            f"{len(vectors)} directions for a batch of {len(stream)} rows; give one, one a row, or a divisor"
        )
    return stream.reshape(len(vectors), -1, vectors.shape[-1]).float()


def amount_of(strength: Strength) -> Amount:
    """Return the strength of one basis as the kernel of the weights takes it."""
    if not isinstance(strength, Tensor) or strength.dim() < 2:
        return float(strength)
    return Mixing.of(strength[0].diag() if strength.dim() == 2 else strength[0])


def weighed(along: Float[Tensor, "bases vectors k"], strength: Strength) -> Float[Tensor, "bases vectors k"]:
    """Return what is removed along each row of each basis."""
    if not isinstance(strength, Tensor):
        return strength * along
    each = strength.to(along.device)
    if each.dim() == 3:
        return along @ each.transpose(1, 2)
    return each[:, None] * along if each.dim() == 2 else each.reshape(-1, 1, 1) * along


def project_rows(
    stream: Float[Tensor, "rows ... d_model"], bases: Float[Tensor, "bases k d_model"], strength: Strength
) -> Float[Tensor, "... d_model"]:
    """Project each row of `stream` along its basis; one basis serves all rows.

    With fewer bases than rows, each serves a run of equally many rows (candidate after candidate). Learned
    position embeddings may come as one row for the whole batch: it becomes one for each basis.
    """
    if len(bases) == 1 and not torch.is_grad_enabled():  # the kernel of the weights writes in place
        return project_out(stream, bases[0], amount_of(strength))
    if len(stream) == 1:
        stream = stream.expand(len(bases), *stream.shape[1:])
    vectors = in_runs(stream, bases[:, 0])
    rows = bases.to(stream.device, torch.float32)
    edited = vectors - weighed(vectors @ rows.transpose(1, 2), strength) @ rows
    return edited.reshape(stream.shape).to(stream.dtype)
