"""Ablation: no writer writes along a direction. Arditi et al. 2024, arXiv 2406.11717, section 2.4.

The hook form `y <- y - s R^T (R y)` on a writer's output equals the weight edit at any strength, because the
output is linear in the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture, Writer, find_architecture
from abliterate.architectures.wrappers import unwrapped
from abliterate.errors import InputError
from abliterate.interventions.conditions import Condition, Gate, When, gate_of, gated
from abliterate.interventions.effect import watch_writers
from abliterate.interventions.hooks import Change, Strength, at_input, at_output, check_finite, hooks_of, project_rows
from abliterate.interventions.recipe import Recipe
from abliterate.models.offload import offloaded_parameter
from abliterate.projection import check_floats, unit_rows


@contextmanager
def ablated(
    model: nn.Module,
    direction: Float[Tensor, "*k d_model"],
    recipe: Recipe | None = None,
    architecture: Architecture | None = None,
    *,
    when: When = None,
) -> Iterator[PreTrainedModel]:
    """Inside the context, no writer of `model` writes along `direction` (as far as `recipe` says; all of it by default).

    `direction` is a vector `[d_model]`, or rows `[k, d_model]` that span what is removed; lengths do not count. `when`, and
    what is refused: see `ablated_rows`.

        The hooks are the model's, not the thread's: whatever runs `model` inside the context sees the edit, on any thread
    (`generate` on a thread of its own behind a streamer, recomputed activations in a backward pass, DataParallel). Another
    thread that wants the unedited model has to wait for the end of the context, or take a copy.

    Examples:
        >>> is_refusal(reply(model, harmful.prompts[0]))
        True
        >>> with ablated(model, directions[4]) as live:
        ...     is_refusal(reply(live, harmful.prompts[0]))
        False
    """
    with ablated_rows(model, unit_rows(direction)[None], recipe, architecture, when=when) as live:
        yield live


@contextmanager
def ablated_rows(
    model: nn.Module,
    bases: Float[Tensor, "bases k d_model"],
    recipe: Recipe | None = None,
    architecture: Architecture | None = None,
    *,
    strengths: Float[Tensor, " strengths"] | None = None,
    when: When = None,
) -> Iterator[PreTrainedModel]:
    """Like `ablated`, but each row of a batch carries its own basis: see `project_rows` for which.

    `strengths` multiply those of the recipe, basis by basis: 0 leaves a row alone. Raises InputError for directions of
    another model, for NaN, infinity and zero, for a recipe with strengths of another number of directions, and for a Condition that is decided after a writer of the recipe has written: give a recipe that
    begins at its layer, or the rows for which it holds (`rows_where`). Raises ArchitectureError in the first pass
    inside, when the model goes around a writer without calling it.

    Examples:
        >>> tokens = torch.tensor([[5, 9, 33], [5, 9, 33]])
        >>> bases = torch.stack([directions[3], directions[5]])[:, None]  # [bases, k, d_model]
        >>> with ablated_rows(model, bases, strengths=torch.tensor([1.0, 0.0])):
        ...     edited, alone = model(tokens).logits
        >>> torch.allclose(alone, model(tokens).logits[1], atol=1e-4), torch.allclose(edited, alone, atol=1e-2)
        (True, False)
    """
    live = unwrapped(model)
    found = architecture or find_architecture(live)
    chosen = recipe or Recipe.uniform()
    chosen.require_removal()
    chosen.require_projection("a hook")
    check_floats(bases)
    if bases.dim() != 3 or not len(bases):
        raise InputError(f"bases have shape {tuple(bases.shape)}; give [bases, k, d_model]")
    bases = torch.stack([unit_rows(basis, found.d_model) for basis in bases])
    chosen.check(found.depth, bases.shape[1])
    if strengths is not None:
        if len(strengths) != len(bases):
            raise InputError(f"{len(strengths)} strengths for {len(bases)} directions; give one each")
        check_finite(strengths, "strengths")
    edits: dict[Writer, tuple[Tensor, Strength]] = {}
    for writer in found.writers:
        strength = chosen.strength(writer.site, writer.layer)
        if not strength:
            continue
        if isinstance(when, Condition) and (writer.layer is None or writer.layer < when.layer):
            raise InputError(
                f"the condition is decided at resid[{when.layer}], after {writer.module} has written; give a recipe "
                f"that begins at layer {when.layer}, or the rows that `rows_where` chooses"
            )
        own: Strength = torch.tensor([strength]) if isinstance(strength, tuple) else strength
        if strengths is not None:
            own = own * (strengths[:, None] if isinstance(own, Tensor) else strengths)
        edits[writer] = (bases, own)
    with gate_of(live, found, when) as gate, projected(live, found, edits, gate):
        yield live


@contextmanager
def projected(
    model: PreTrainedModel,
    architecture: Architecture,
    edits: Mapping[Writer, tuple[Float[Tensor, "bases k d_model"], Strength]],
    gate: Gate | None = None,
) -> Iterator[PreTrainedModel]:
    """Inside the context, each writer's output is projected along its own bases, as strongly as is said.

    Where gradients are recorded, they reach bases and strengths that are tensors which ask for them.
    """
    with hooks_of() as hooks:
        for writer, (bases, strength) in edits.items():
            own, amount = writer_edits(model, writer, bases, strength)
            hooks.callback(register(model, writer, own, amount, gate).remove)
            tied = architecture.tied and model.get_submodule(writer.module) is model.get_input_embeddings()
            if tied and architecture.head:
                # A tied embedding is edited in both roles: as the head, W(I - s rr^T) reads an input without r. How rows
                # mix is transposed there, since the head reads what the embedding writes.
                head = model.get_submodule(architecture.head)
                read = amount.transpose(1, 2) if isinstance(amount, Tensor) and amount.dim() == 3 else amount
                hooks.callback(at_input(head, gated(projection(own, read), gate)).remove)
        watch_writers(model, architecture, edits, hooks)
        yield model


@contextmanager
def disturbed(model: PreTrainedModel, writers: Mapping[Writer, float]) -> Iterator[PreTrainedModel]:
    """Inside the context, what each of `writers` writes has a random error of that relative size, the same each time."""
    generator = torch.Generator().manual_seed(0)

    def change(share: float, stream: Tensor) -> Tensor:
        vectors = stream.float()
        noise = torch.randn(stream.shape, generator=generator).to(stream.device)
        size = vectors.norm(dim=-1, keepdim=True) / stream.shape[-1] ** 0.5
        moved: Tensor = vectors + share * size * noise
        return moved.to(stream.dtype)

    with hooks_of() as hooks:
        for writer, share in writers.items():
            place = at_input if writer.hook_input else at_output
            hooks.callback(place(model.get_submodule(writer.hook), partial(change, share)).remove)
        yield model


def writer_edits(
    model: PreTrainedModel, writer: Writer, bases: Float[Tensor, "bases k d_model"], strength: Strength
) -> tuple[Float[Tensor, "bases more d_model"], Strength]:
    """Return what to remove from the output of `writer`, and how strongly: what the gains behind it make of both."""
    if writer.plain:
        return bases, strength
    read = partial(offloaded_parameter, model)
    if not isinstance(strength, Tensor) or strength.dim() < 2:
        return torch.stack([writer.basis(basis.cpu(), read) for basis in bases]), strength
    each = strength.expand(len(bases), -1)
    rows, mixings = zip(
        *(writer.edit(basis.cpu(), own, read) for basis, own in zip(bases, each, strict=True)), strict=True
    )
    return torch.stack(rows), torch.stack(mixings)


def register(
    model: PreTrainedModel,
    writer: Writer,
    bases: Float[Tensor, "bases k d_model"],
    strength: Strength,
    gate: Gate | None = None,
) -> RemovableHandle:
    """Hook a writer so that what it writes is projected; return the handle of the hook."""
    module: nn.Module = model.get_submodule(writer.hook)
    if writer.hook_input:
        return at_input(module, gated(projection(bases, strength), gate))
    if writer.constant:
        bias = offloaded_parameter(model, f"{writer.module}.{writer.parameters[0].name}")
        return at_output(module, gated(constant_shift(bias, bases, strength), gate))
    return at_output(module, gated(projection(bases, strength), gate))


def projection(bases: Float[Tensor, "bases k d_model"], strength: Strength) -> Change:
    """Return the change that projects a stream, batch row by batch row."""
    return lambda stream: project_rows(stream, bases, strength)


def constant_shift(
    bias: Float[Tensor, " d_model"], bases: Float[Tensor, "bases k d_model"], strength: Strength
) -> Change:
    """Return the change of a stream by what projecting a bias in it changes."""
    rows = bias.detach().expand(len(bases), 1, -1)
    change = project_rows(rows, bases, strength) - rows

    def shift(stream: Tensor) -> Tensor:
        own = change.to(stream.device).repeat_interleave(max(1, len(stream) // len(bases)), dim=0)
        return stream + own.reshape(len(own), *[1] * (stream.dim() - 2), -1)

    return shift
