"""What attribution finds: a vector, whether its parts sum up, and whether few neurons hold it, beside controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.phases.attribution import (
    SHARE,
    SPARSE,
    TOPS,
    Attributed,
    Completeness,
    Concentration,
    Neurons,
    alike,
    attributed,
    concentration,
    integrated,
    kept_score,
    vector_of,
)
from abliterate.studies.replies import Tokens

CHECKED = 4
"""Prompts of the check by integrated gradients."""

CURVE = 8
"""Prompts of the curve."""

TOP = 256
"""Neurons that make the vector."""


@dataclass(frozen=True)
class NeuronFindings:
    """How concentrated the attribution is, beside shuffled labels, and what is left of the score without the top neurons.

    `curve` has a row for each number of neurons: the share of the score that is left without the top ones, and without random
    ones of the same layers and size.
    """

    count: int
    check: Completeness
    found: Concentration
    shuffled: tuple[Concentration, ...]
    curve: tuple[tuple[int, float, tuple[float, ...]], ...]

    @property
    def sparse(self) -> bool:
        """Return whether a thousandth of the neurons halves the score, and as many random ones do not."""
        few = [row for row in self.curve if row[0] <= max(1, SPARSE * self.count)]
        return any(left <= SHARE and all(one > SHARE for one in random) for _, left, random in few)

    @property
    def halving(self) -> int | None:
        """Return the least number of top neurons looked at that halves the score."""
        return next((number for number, left, _ in self.curve if left <= SHARE), None)

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "count": self.count, "check": self.check.to_json(), **self.found.to_json(),
            "shuffled": [one.to_json() for one in self.shuffled], "sparse": self.sparse, "halving": self.halving,
            "curve": [{"neurons": number, "left": left, "random": list(random)} for number, left, random in self.curve],
        }  # fmt: skip


def neuron_findings(
    live: LiveModel,
    prompts: Mapping[str, Sequence[Tokens]],
    layer: int,
    openings: Sequence[int],
    controls: int,
    seed: int = 0,
) -> tuple[NeuronFindings, Float[Tensor, " d_model"]]:
    """Return what neurons add to the refusal of `refused` prompts, and the vector that they write below a layer.

    The vector is of refused against answered prompts, or harmless ones where nothing is answered. Raises InputError where
    nothing is refused or harmless, or the model has no such neurons.
    """
    refused, answered, harmless = (list(prompts[name]) for name in ("refused", "answered", "harmless"))
    if not refused or not harmless or not openings:
        raise InputError("no train prompt is refused, or none is harmless: there is nothing to attribute")
    neurons = Neurons.of(live)
    calm = neurons.activations(harmless)
    found = attributed(neurons, refused, calm, openings)
    total = found.total
    _, check = integrated(neurons, refused[:CHECKED], calm, openings)
    own, other = flat(neurons, refused), flat(neurons, answered) if answered else flat(neurons, harmless)
    vector = vector_of(neurons, total, own.mean(0) - other.mean(0), layer, TOP)
    left = kept_score(neurons, refused[:CURVE], calm, openings)
    layers = [place for place, name in enumerate(neurons.modules) for _ in range(calm[name].shape[1])]
    sizes = own.abs().mean(0)
    order = total.abs().argsort(descending=True).tolist()
    curve = []
    for number in (one for one in TOPS if one < len(total)):
        top = order[:number]
        random = tuple(left(alike(total, sizes, layers, top, seed + draw)) for draw in range(controls))
        curve.append((number, left(top), random))
    shuffled = tuple(
        concentration(shuffled_total(neurons, [*refused, *harmless], len(refused), openings, seed + draw))
        for draw in range(controls)
    )
    return NeuronFindings(len(total), check, concentration(total), shuffled, tuple(curve)), vector


def flat(neurons: Neurons, prompts: Sequence[Tokens]) -> Float[Tensor, "rows neurons"]:
    """Return the neurons of all MLPs in one row for each prompt."""
    rows = neurons.activations(prompts)
    return torch.cat([rows[name].float().cpu() for name in neurons.modules], dim=1)


def shuffled_total(
    neurons: Neurons, prompts: Sequence[Tokens], count: int, openings: Sequence[int], seed: int
) -> Float[Tensor, " neurons"]:
    """Return the attribution where which prompts are the refused ones is drawn."""
    order = numpy.random.default_rng([seed, 9]).permutation(len(prompts))
    first, rest = [prompts[place] for place in order[:count]], [prompts[place] for place in order[count:]]
    found: Attributed = attributed(neurons, first, neurons.activations(rest), openings)
    return found.total
