"""Activation addition: a vector is added to the stream at one layer. Arditi et al. 2024, arXiv 2406.11717, section 2.4.

There the vector is the difference in means at that layer, at its own length, and is added at every position: on
harmless prompts this induces refusals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from abliterate.interventions.hooks import Change, at_resid, check_finite, check_stream_layer, hooks_of
from abliterate.projection import check_vector, check_width


@contextmanager
def added(
    model: nn.Module,
    vector: Float[Tensor, " d_model"],
    layer: int,
    architecture: Architecture | None = None,
    *,
    scale: float = 1.0,
    when: When = None,
) -> Iterator[PreTrainedModel]:
    """Inside the context, `scale * vector` is added to `resid[layer]` at every position where `when` holds.

    `vector` keeps its length: give `directions.difference(layer)`, or a unit direction and a scale in the units of the
    stream. A negative scale turns it round, 0 adds nothing. Raises InputError for a layer out of range, a vector of another
    model, one that is zero, NaN and infinity, and a Condition that is decided after `layer`.

    Examples:
        >>> is_refusal(reply(model, harmless.prompts[0]))
        False
        >>> with added(model, directions.difference(5), 5) as live:
        ...     is_refusal(reply(live, harmless.prompts[0]))
        True
    """
    check_finite(scale, "scale")
    check_vector(vector)
    with added_rows(model, scale * vector[None], [layer], architecture, when=when) as live:
        yield live


@contextmanager
def added_rows(
    model: nn.Module,
    vectors: Float[Tensor, "vectors d_model"],
    layers: Sequence[int],
    architecture: Architecture | None = None,
    *,
    when: When = None,
) -> Iterator[PreTrainedModel]:
    """Like `added`, but each run of rows has its own vector and layer: candidate after candidate, as `project_rows`.

    Scale the vectors for a scale of each row's own; a vector of zeros leaves its rows alone.

    Examples:
        >>> tokens, vectors = torch.tensor([[5, 9, 33]]).expand(2, -1), torch.stack([directions[3], directions[5]])
        >>> with added_rows(model, vectors, [3, 5]):
        ...     together = model(tokens).logits
        >>> with added(model, directions[5], 5):
        ...     torch.allclose(together[1], model(tokens).logits[1], atol=1e-3)
        True
    """
    live = unwrapped(model)
    found = architecture or find_architecture(live)
    check_width(vectors, found.d_model)
    if vectors.dim() != 2:
        raise InputError(f"vectors have shape {tuple(vectors.shape)}; give [vectors, d_model]")
    check_finite(vectors, "a vector")
    if len(layers) != len(vectors):
        raise InputError(f"{len(layers)} layers for {len(vectors)} vectors; give one each")
    for layer in layers:
        check_stream_layer(layer, found.depth - 1)
        if isinstance(when, Condition) and layer < when.layer:
            raise InputError(
                f"the condition is decided at resid[{when.layer}], after resid[{layer}] where the vector is added; "
                "decide it there or before, or give the rows that `rows_where` chooses"
            )
    with gate_of(live, found, when) as gate, hooks_of() as hooks:
        for layer in sorted(set(layers)):
            here = torch.tensor([own == layer for own in layers], device=vectors.device)[:, None]
            change = gated(addition(torch.where(here, vectors, 0.0)), gate)
            hooks.callback(at_resid(live, found, layer, change).remove)
            watch_layers(live, found, [layer], hooks)
        yield live


def addition(vectors: Float[Tensor, "vectors d_model"]) -> Change:
    """Return the change that adds to every token of a row its vector: to each lane, where the stream has several."""

    def change(stream: Tensor) -> Tensor:
        if len(stream) % len(vectors):
            raise InputError(
                f"{len(vectors)} vectors for a batch of {len(stream)} rows; give one, one a row, or a divisor"
            )
        lanes = stream.shape[-1] // vectors.shape[-1]
        shift = vectors.to(stream.device).repeat(1, lanes).repeat_interleave(len(stream) // len(vectors), dim=0)
        shift = shift.reshape(len(stream), *[1] * (stream.dim() - 2), -1)
        return (stream + shift).to(stream.dtype)

    return change
