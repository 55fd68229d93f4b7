"""Steering by features: rows of the stream are strengthened, weakened, or set right. arXiv 2502.15576 and its authors' code.

`S` has the unit rows as columns, `X` are the states at one `resid[layer]`, `t = ReLU((X - b) S)` with `b` the decoder bias of
the autoencoder that the rows are features of, 0 for bare directions.

| | |
|---|---|
| amplify | `X' = X + alpha t S^T`: above 0 strengthens, below weakens; -1 removes one feature exactly |
| calibrate | `X' = X - t S^T + beta s`, `s` the mean of the columns |
| raise | `X' = X + v (w / sum w) S^T`, `w = ReLU(v - t)`: features rise only where they fall short of `v` |

With `orthogonal` the pseudo-inverse of `S` stands in the place of `S^T`, so that several rows do not get into each other's way: with
`alpha = -1`, and `beta = 0`, then `t' = 0`. `keep_norm` scales each state back to its length. All of it acts on every token where `when`
holds; calibrated without it, every query gets `beta s`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from abliterate.projection import ZERO_LENGTH, check_width, each_unit

DEPENDENT = 1e-6
"""Share of the greatest singular value below which rows count as dependent."""

Shift = Callable[[Float[Tensor, "tokens features"], Float[Tensor, "features d_model"]], Float[Tensor, "tokens d_model"]]
"""What is added to states by how far each is along the rows, beyond 0, and by what the rows write."""


@contextmanager
def amplified(
    model: nn.Module,
    rows: Float[Tensor, "*features d_model"],
    layer: int,
    alpha: float,
    architecture: Architecture | None = None,
    *,
    offset: Float[Tensor, " width"] | None = None,
    orthogonal: bool = False,
    keep_norm: bool = False,
    when: When = None,
) -> Iterator[PreTrainedModel]:
    """Inside the context, what states have along `rows` at `resid[layer]` counts `1 + alpha` times; `alpha = 0` changes nothing.

    The rows' lengths do not count. Raises InputError for a layer out of range, rows of another model, zero, NaN and infinity,
    rows that are linearly dependent where `orthogonal`, and a Condition that is decided after `layer`.

    Examples:
        >>> is_refusal(reply(model, harmful.prompts[0]))
        True
        >>> with amplified(model, directions[4][None], 4, -1.5) as live:
        ...     is_refusal(reply(live, harmful.prompts[0]))
        False
    """
    check_finite(alpha, "alpha")

    def shift(along: Tensor, writes: Tensor) -> Tensor:
        return alpha * along @ writes

    with steered(model, rows, layer, shift, architecture, offset, orthogonal, keep_norm, when, bool(alpha)) as live:
        yield live


@contextmanager
def calibrated(
    model: nn.Module,
    rows: Float[Tensor, "*features d_model"],
    layer: int,
    beta: float,
    architecture: Architecture | None = None,
    *,
    offset: Float[Tensor, " width"] | None = None,
    orthogonal: bool = False,
    keep_norm: bool = False,
    when: When = None,
) -> Iterator[PreTrainedModel]:
    """Inside the context, what states have along `rows` at `resid[layer]` is replaced by `beta` times the mean of the rows.

    `beta` is in the units of the stream. It is added to every token, whatever the prompt: give `when`, or normal queries are
    steered as much as others. Raises InputError as `amplified`.

    Examples:
        >>> where = Condition(directions[4], layer=4, threshold=float(directions.difference(4).norm()))
        >>> with calibrated(model, directions[4][None], 4, 3.0, when=where) as live:
        ...     is_refusal(reply(live, harmful.prompts[0])), is_refusal(reply(live, harmless.prompts[0]))
        (True, False)
    """
    check_finite(beta, "beta")

    def shift(along: Tensor, writes: Tensor) -> Tensor:
        return beta * unit.mean(0).to(along) - along @ writes

    unit = each_unit(rows)
    with steered(model, rows, layer, shift, architecture, offset, orthogonal, keep_norm, when) as live:
        yield live


@contextmanager
def raised(
    model: nn.Module,
    rows: Float[Tensor, "*features d_model"],
    layer: int,
    value: float,
    architecture: Architecture | None = None,
    *,
    offset: Float[Tensor, " width"] | None = None,
    orthogonal: bool = False,
    keep_norm: bool = False,
    when: When = None,
) -> Iterator[PreTrainedModel]:
    """Inside the context, `value` is added to states along those of the rows that fall short of it, shared out by how far.

    `value` is in the units of the stream; states in which no row falls short stay. Raises InputError as `amplified`, and for a
    value below 0.
    """
    check_finite(value, "the value to raise to")
    if value < 0:
        raise InputError(f"the value to raise to is {value}; give 0 or more")

    def shift(along: Tensor, writes: Tensor) -> Tensor:
        short = (value - along).relu()
        return value * (short / short.sum(-1, keepdim=True).clamp(min=ZERO_LENGTH)) @ writes

    with steered(model, rows, layer, shift, architecture, offset, orthogonal, keep_norm, when, bool(value)) as live:
        yield live


@contextmanager
def steered(
    model: nn.Module,
    rows: Float[Tensor, "*features d_model"],
    layer: int,
    shift: Shift,
    architecture: Architecture | None,
    offset: Float[Tensor, " width"] | None,
    orthogonal: bool,
    keep_norm: bool,
    when: When,
    acts: bool = True,
) -> Iterator[PreTrainedModel]:
    """Inside the context, `shift` is added at `resid[layer]`, where it does anything and `when` holds."""
    live = unwrapped(model)
    found = architecture or find_architecture(live)
    check_stream_layer(layer, found.depth)
    if rows.dim() != 2 or not len(rows):
        raise InputError(f"rows have shape {tuple(rows.shape)}; give [rows, d_model]")
    check_width(rows, found.d_model)
    unit = each_unit(rows)
    writes = inverse_of(unit) if orthogonal else unit
    origin = torch.zeros(found.d_model) if offset is None else offset.float()
    check_width(origin, found.d_model)
    check_finite(origin, "the offset")
    if isinstance(when, Condition) and layer < when.layer:
        raise InputError(
            f"the condition is decided at resid[{when.layer}], after resid[{layer}] where features are steered; decide it "
            "there or before, or give the rows that `rows_where` chooses"
        )
    with gate_of(live, found, when) as gate, hooks_of() as hooks:
        if acts:
            change = gated(steering(unit, writes, origin, shift, keep_norm), gate)
            hooks.callback(at_resid(live, found, layer, change).remove)
            watch_layers(live, found, [min(layer, found.depth - 1)], hooks)
        yield live


def steering(
    unit: Float[Tensor, "features d_model"],
    writes: Float[Tensor, "features d_model"],
    origin: Float[Tensor, " d_model"],
    shift: Shift,
    keep_norm: bool,
) -> Change:
    """Return the change of a stream, of each lane where there are several."""

    def change(stream: Tensor) -> Tensor:
        states = in_runs(stream, unit[:1])
        own, written, begin = (one.to(states) for one in (unit, writes, origin))
        moved = states + shift(((states - begin) @ own.T).relu(), written)
        if keep_norm:
            moved = moved * (
                states.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True).clamp(min=ZERO_LENGTH)
            )
        return moved.reshape(stream.shape).to(stream.dtype)

    return change


def inverse_of(unit: Float[Tensor, "features d_model"]) -> Float[Tensor, "features d_model"]:
    """Return the pseudo-inverse of the columns, `[rows, d_model]`. Raises InputError for rows that are linearly dependent."""
    values = torch.linalg.svdvals(unit.cpu().double())
    if (
        len(unit) > unit.shape[1]
        or not math.isfinite(float(values[0]))
        or float(values[-1]) < DEPENDENT * float(values[0])
    ):
        raise InputError(f"the {len(unit)} rows are linearly dependent, so that they cannot be held apart; give fewer")
    inverse: Tensor = torch.linalg.pinv(unit.cpu().double().T).float()
    return inverse
