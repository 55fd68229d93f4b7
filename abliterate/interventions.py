"""Interventions on a live model as context managers: nothing is changed for good.

The hook form `y <- y - s R^T (R y)` on a writer's output equals the weight edit at any strength, because the
output is linear in the weights. Activation addition is Arditi et al. 2024, arXiv 2406.11717, section 2.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from abliterate.architecture import Architecture, Writer, find_architecture
from abliterate.errors import InputError
from abliterate.offload import parameter_of
from abliterate.projection import project_out
from abliterate.recipe import Recipe

Strength = float | Float[Tensor, ""]
"""A number, or a tensor of no dimension that a search follows by gradient."""


@contextmanager
def ablated(
    model: PreTrainedModel,
    direction: Float[Tensor, "*k d_model"],
    recipe: Recipe | None = None,
    architecture: Architecture | None = None,
) -> Iterator[PreTrainedModel]:
    """Inside the context, no writer of `model` writes along `direction` (as far as `recipe` says; all of it by default).

    `direction` is a unit vector `[d_model]`, or an orthonormal basis `[k, d_model]`.
    """
    with ablated_rows(model, direction.reshape(1, -1, direction.shape[-1]), recipe, architecture):
        yield model


@contextmanager
def ablated_rows(
    model: PreTrainedModel,
    bases: Float[Tensor, "bases k d_model"],
    recipe: Recipe | None = None,
    architecture: Architecture | None = None,
) -> Iterator[None]:
    """Like `ablated`, but each row of a batch carries its own basis: see `project_rows` for which."""
    found = architecture or find_architecture(model)
    chosen = recipe or Recipe.uniform()
    chosen.check(found.depth)
    if bases.shape[-1] != found.d_model:
        raise InputError(
            f"the direction has d_model {bases.shape[-1]}, the model {found.d_model}; it belongs to another model"
        )
    strengths = {writer: chosen.strength(writer.site, writer.layer) for writer in found.writers}
    with projected(model, found, {writer: (bases, strength) for writer, strength in strengths.items() if strength}):
        yield


@contextmanager
def projected(
    model: PreTrainedModel,
    architecture: Architecture,
    edits: Mapping[Writer, tuple[Float[Tensor, "bases k d_model"], Strength]],
) -> Iterator[None]:
    """Inside the context, each writer's output is projected along its own bases, as strongly as is said.

    Where gradients are recorded, they reach bases and strengths that are tensors which ask for them.
    """
    with ExitStack() as hooks:
        for writer, (bases, strength) in edits.items():
            own = writer_bases(model, writer, bases)
            hooks.callback(register(model, writer, own, strength).remove)
            tied = architecture.tied and model.get_submodule(writer.module) is model.get_input_embeddings()
            if tied and architecture.head:
                # A tied embedding is edited in both roles: as the head, W(I - s rr^T) reads an input without r.
                head = model.get_submodule(architecture.head)
                hooks.callback(head.register_forward_pre_hook(input_hook(own, strength)).remove)
        yield


@contextmanager
def added(
    model: PreTrainedModel,
    vector: Float[Tensor, " d_model"],
    layer: int,
    architecture: Architecture | None = None,
) -> Iterator[PreTrainedModel]:
    """Inside the context, `vector` is added to `resid[layer]` at every position."""
    with added_rows(model, vector[None], [layer], architecture):
        yield model


@contextmanager
def added_rows(
    model: PreTrainedModel,
    vectors: Float[Tensor, "vectors d_model"],
    layers: Sequence[int],
    architecture: Architecture | None = None,
) -> Iterator[None]:
    """Like `added`, but each run of rows has its own vector and layer: candidate after candidate, as `project_rows`."""
    found = architecture or find_architecture(model)
    for layer in layers:
        if not 0 <= layer < found.depth:
            raise InputError(f"layer {layer} is out of range; the model has layers 0 to {found.depth - 1}")
    with ExitStack() as hooks:
        for layer in sorted(set(layers)):
            here = torch.tensor([own == layer for own in layers])[:, None]
            module = model.get_submodule(found.layers[layer])
            hook = module.register_forward_pre_hook(addition_hook(torch.where(here, vectors, 0.0)), with_kwargs=True)
            hooks.callback(hook.remove)
        yield


@contextmanager
def disturbed(model: PreTrainedModel, writers: Mapping[Writer, float]) -> Iterator[PreTrainedModel]:
    """Inside the context, what each of `writers` writes has a random error of that relative size, the same each time."""
    generator = torch.Generator().manual_seed(0)

    def change(stream: Tensor, share: float) -> Tensor:
        vectors = stream.float()
        noise = torch.randn(stream.shape, generator=generator).to(stream.device)
        size = vectors.norm(dim=-1, keepdim=True) / stream.shape[-1] ** 0.5
        moved: Tensor = vectors + share * size * noise
        return moved.to(stream.dtype)

    with ExitStack() as hooks:
        for writer, share in writers.items():
            module = model.get_submodule(writer.hook)
            if writer.hook_input:
                hook = module.register_forward_pre_hook(
                    lambda module, args, share=share: (change(args[0], share), *args[1:])
                )
            else:
                hook = module.register_forward_hook(
                    lambda module, args, output, share=share: on_first(output, lambda one: change(one, share))
                )
            hooks.callback(hook.remove)
        yield model


def addition_hook(vectors: Float[Tensor, "vectors d_model"]) -> Any:
    """Return a forward pre-hook of a decoder layer that adds to its input."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        stream = args[0] if args else kwargs["hidden_states"]
        lanes = stream.shape[-1] // vectors.shape[-1]
        shift = vectors.to(stream.device).repeat(1, lanes).repeat_interleave(len(stream) // len(vectors), dim=0)
        shift = shift.reshape(len(stream), *[1] * (stream.dim() - 2), -1)
        edited = (stream + shift).to(stream.dtype)
        return ((edited, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": edited})

    return hook


def writer_bases(
    model: PreTrainedModel, writer: Writer, bases: Float[Tensor, "bases k d_model"]
) -> Float[Tensor, "bases more d_model"]:
    """Return what to remove from the output of `writer`: `bases`, or what the gains behind it make of them."""
    if writer.plain:
        return bases
    return torch.stack([writer.basis(basis.cpu(), partial(parameter_of, model)) for basis in bases])


def register(
    model: PreTrainedModel, writer: Writer, bases: Float[Tensor, "bases k d_model"], strength: Strength
) -> RemovableHandle:
    """Hook a writer so that what it writes is projected; return the handle of the hook."""
    module: nn.Module = model.get_submodule(writer.hook)
    if writer.hook_input:
        return module.register_forward_pre_hook(input_hook(bases, strength))
    if writer.constant:
        bias = parameter_of(model, f"{writer.module}.{writer.parameters[0].name}")
        return module.register_forward_hook(constant_hook(bias, bases, strength))
    return module.register_forward_hook(output_hook(bases, strength))


def output_hook(bases: Float[Tensor, "bases k d_model"], strength: Strength) -> Any:
    """Return a forward hook that projects a module's output (the first, if it has several), batch row by batch row."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return on_first(output, lambda stream: project_rows(stream, bases, strength))

    return hook


def constant_hook(bias: Float[Tensor, " d_model"], bases: Float[Tensor, "bases k d_model"], strength: Strength) -> Any:
    """Return a forward hook that changes a module's output by what projecting a bias changes."""
    rows = bias.detach().expand(len(bases), 1, -1)
    change = project_rows(rows, bases, strength) - rows

    def shift(stream: Tensor) -> Tensor:
        own = change.to(stream.device).repeat_interleave(max(1, len(stream) // len(bases)), dim=0)
        return stream + own.reshape(len(own), *[1] * (stream.dim() - 2), -1)

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return on_first(output, shift)

    return hook


def on_first(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a module's output with `change` applied to it, or to the first of several."""
    return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


def input_hook(bases: Float[Tensor, "bases k d_model"], strength: Strength) -> Any:
    """Return a forward pre-hook that projects a module's only input."""

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (project_rows(args[0], bases, strength), *args[1:])

    return hook


def project_rows(
    stream: Float[Tensor, "rows ... d_model"], bases: Float[Tensor, "bases k d_model"], strength: Strength
) -> Float[Tensor, "... d_model"]:
    """Project each row of `stream` along its basis; one basis serves all rows.

    With fewer bases than rows, each serves a run of equally many rows (candidate after candidate). Learned
    position embeddings may come as one row for the whole batch: it becomes one for each basis.
    """
    if len(bases) == 1 and not torch.is_grad_enabled():  # the kernel of the weights writes in place
        return project_out(stream, bases[0], float(strength))
    if len(stream) == 1:
        stream = stream.expand(len(bases), *stream.shape[1:])
    if len(stream) % len(bases):
        raise InputError(
            f"{len(bases)} directions for a batch of {len(stream)} rows; give one, one a row, or a divisor"
        )
    rows = bases.to(stream.device, torch.float32)
    vectors = stream.reshape(len(bases), -1, stream.shape[-1]).float()
    edited = vectors - strength * (vectors @ rows.transpose(1, 2)) @ rows
    return edited.reshape(stream.shape).to(stream.dtype)
