"""Affine concept editing: Marshall, Scherlis, Belrose 2024, arXiv 2411.09003 (ACE).

Zero is no neutral value of a component: activations of prompts that a model answers have one of their own, and removing
it takes them where the model has never been. ACE moves the component to a value that is neutral, the mean of
harmless activations, or to the mean of harmful ones, to induce.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.architectures.wrappers import unwrapped
from abliterate.errors import InputError
from abliterate.interventions.conditions import Condition, When, gate_of, gated
from abliterate.interventions.effect import watch_layers
from abliterate.interventions.hooks import Change, at_resid, check_finite, check_stream_layer, hooks_of, in_runs
from abliterate.projection import check_vectors, each_unit, unit_rows

Target = float | Float[Tensor, "*lists layers"]
"""The component to have at `resid[l]`: one number, or one for each `l = 0..L`, for all rows or one list a row."""


@runtime_checkable
class Captured(Protocol):
    """What `mean_component` needs of captured activations: `abliterate.Activations` has it."""

    @property
    def positions(self) -> tuple[int, ...]:
        """The positions, counted from the end of the prompt."""

    def mean(self) -> Float[Tensor, "positions layers d_model"]:
        """Return the mean over the prompts."""


@contextmanager
def affine(
    model: nn.Module,
    direction: Float[Tensor, "*rows d_model"],
    target: Target,
    layers: Sequence[int] | None = None,
    architecture: Architecture | None = None,
    *,
    when: When = None,
) -> Iterator[PreTrainedModel]:
    """Inside the context, the component of the stream along `direction` is `target` at every token.

    `x <- x + (c - x·r) r`, so that `x·r = c`, at `resid[l]` for each `l` of `layers`: what block `l` reads, and at
    `l = L` what the final norm reads. All of `0..L` by default, with a Condition those from its layer on. What attention
    writes reaches the MLP of its own block before that, unlike under `ablated`, which stops it at the writer.

    Every token gets the target, though `mean_component` measures it at one position: towards harmless that does little
    harm, towards harmful, at all layers, replies may open as refusals and then go in circles; a single layer is gentler.

    `direction` is `[d_model]`, or one a row `[rows, d_model]`; its length does not count. `target` is in the units of the
    stream: see `Target` and `mean_component`. Raises InputError for layers out of range, a direction of another
    model, NaN, infinity and a zero direction, targets that are not one for each `resid[l]`, and a Condition that is decided after one of `layers`.

    Examples:
        >>> with affine(model, directions[4], mean_component(capture(model, tokenizer, harmless), directions[4])):
        ...     is_refusal(reply(model, harmful.prompts[0]))
        False
    """
    live = unwrapped(model)
    found = architecture or find_architecture(live)
    check_vectors(direction, found.d_model)
    unit = each_unit(direction.reshape(-1, direction.shape[-1]))
    first = when.layer if isinstance(when, Condition) else 0
    places = sorted(set(range(first, found.depth + 1) if layers is None else layers))
    for layer in places:
        check_stream_layer(layer, found.depth)
        if layer < first:
            raise InputError(
                f"the condition is decided at resid[{first}], after resid[{layer}] where it should act; "
                "decide it there or before, or give the rows that `rows_where` chooses"
            )
    wanted = torch.as_tensor(target, dtype=torch.float32)
    check_finite(wanted, "target")
    if wanted.dim() and wanted.shape[-1] != found.depth + 1:
        raise InputError(
            f"{wanted.shape[-1]} targets; give one number, or one for each of resid[0] to resid[{found.depth}]"
        )
    each = wanted.reshape(-1, wanted.shape[-1] if wanted.dim() else 1).expand(-1, found.depth + 1)
    if len(each) > 1 and len(unit) not in (1, len(each)):
        raise InputError(
            f"targets for {len(each)} rows and {len(unit)} directions; give one of them, or as many of both"
        )
    with gate_of(live, found, when) as gate, hooks_of() as hooks:
        for layer in places:
            change = gated(setting(unit, each[:, layer]), gate)
            hooks.callback(at_resid(live, found, layer, change).remove)
        if places:
            watch_layers(live, found, [min(layer, found.depth - 1) for layer in places], hooks)
        yield live


def setting(unit: Float[Tensor, "directions d_model"], target: Float[Tensor, " targets"]) -> Change:
    """Return the change that sets the component of each row (of each lane, where there are several) to its target."""
    if len(target) > 1 and len(unit) == 1:
        unit = unit.expand(len(target), -1)

    def change(stream: Tensor) -> Tensor:
        rows = unit.to(stream.device)
        vectors = in_runs(stream, rows)
        missing = target.to(stream.device)[:, None, None] - vectors @ rows[:, :, None]
        return (vectors + missing * rows[:, None]).reshape(stream.shape).to(stream.dtype)

    return change


def mean_component(
    activations: Captured, direction: Float[Tensor, " d_model"], position: int = -1
) -> Float[Tensor, " layers"]:
    """Return the mean component of captured activations along a direction at each `resid[l]`, `l = 0..L`: a target.

    `c[l] = mean(resid[l][position])·r`, summed in float64, returned in float32. The length of `direction` does not
    count. Raises InputError for a position that was not captured, a direction of another model, NaN, infinity and zero.

    Examples:
        >>> usual = mean_component(capture(model, tokenizer, harmless), directions[4])
        >>> usual.shape, bool(usual[4] < mean_component(capture(model, tokenizer, harmful), directions[4])[4])
        (torch.Size([9]), True)
    """
    if position not in activations.positions:
        known = ", ".join(map(str, activations.positions))
        raise InputError(f"position {position} was not captured; there are {known}")
    mean = activations.mean()[activations.positions.index(position)].cpu().double()
    check_vectors(direction, None)
    if mean.shape[-1] != direction.shape[-1]:
        raise InputError(
            f"the direction has d_model {direction.shape[-1]}, the activations {mean.shape[-1]}; "
            "it belongs to another model"
        )
    return (mean @ unit_rows(direction)[0].cpu().double()).float()
