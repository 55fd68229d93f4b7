"""Is it refusal or wording? What the clusters of prompts share with their categories, and with their words.

Adjusted mutual information (Vinh et al. 2010) of the labels with each attribute, and permutations of the labels: under those
the adjustment stays what it is, so that plain mutual information is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from jaxtyping import Int
from numpy.typing import NDArray

from abliterate.extras import require
from abliterate.studies.clusters.kmeans import agreement
from abliterate.studies.common import holm

PERMUTATIONS = 1000
LEVEL = 0.05

CATEGORY, FRAME, FIRST_WORD, LENGTH, SCORE, HARMLESS, REPLY = (
    "category", "frame", "first word", "length quartile", "f quartile", "harmless match", "own reply's opening",
)  # fmt: skip

WORDING = (FRAME, FIRST_WORD, LENGTH, HARMLESS)
"""Attributes of how a thing is asked, or that harmless phrases share: a cluster of those is no cluster of refusals."""


@dataclass(frozen=True)
class Shared:
    """What labels share with one attribute: adjusted mutual information, its p-value by Holm over all attributes, and the adjusted Rand index."""

    attribute: str
    ami: float
    p: float
    ari: float = 0.0

    @property
    def shown(self) -> bool:
        """Return whether it is more than chance."""
        return self.p < LEVEL and self.ami > 0

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return dict(vars(self))


def shared_with(
    labels: Int[NDArray[numpy.intp], " rows"],
    attributes: Mapping[str, Sequence[str]],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> tuple[Shared, ...]:
    """Return what labels share with each attribute that has two values at least."""
    require("study", "clustering", "sklearn")
    from sklearn.metrics import adjusted_mutual_info_score

    rng = numpy.random.default_rng([seed, 13])
    tested = {name: codes(values) for name, values in attributes.items() if len(set(values)) > 1}
    orders = [rng.permutation(len(labels)) for _ in range(permutations)]
    raw = []
    for values in tested.values():
        observed = mutual_information(labels, values)
        above = sum(mutual_information(labels[order], values) >= observed - 1e-12 for order in orders)
        raw.append((1 + above) / (1 + permutations))
    adjusted = holm(raw)
    return tuple(
        Shared(name, float(adjusted_mutual_info_score(labels, values)), p, agreement(labels, values))
        for (name, values), p in zip(tested.items(), adjusted, strict=True)
    )


def codes(values: Sequence[str]) -> NDArray[numpy.intp]:
    """Return values as numbers from 0 up."""
    return numpy.unique(numpy.asarray(values), return_inverse=True)[1].astype(numpy.intp)


def mutual_information(first: NDArray[numpy.intp], second: NDArray[numpy.intp]) -> float:
    """Return the mutual information of two labellings, in nats."""
    table = numpy.bincount(first * (second.max() + 1) + second, minlength=(first.max() + 1) * (second.max() + 1))
    joint = table.reshape(first.max() + 1, second.max() + 1) / len(first)
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * numpy.log(joint[seen] / apart[seen])).sum())


def quartiles(values: Sequence[float | int]) -> list[str]:
    """Return the quartile of each value, as 1 to 4."""
    bounds = numpy.quantile(values, (0.25, 0.5, 0.75))
    return [str(1 + int(place)) for place in numpy.searchsorted(bounds, values, side="left")]


def is_wording(shared: Sequence[Shared]) -> bool:
    """Return whether the clusters share more with how a thing is asked than with what is asked."""
    own = {one.attribute: one for one in shared}
    category = own[CATEGORY].ami if CATEGORY in own and own[CATEGORY].shown else 0.0
    return any(own[name].shown and own[name].ami >= category for name in WORDING if name in own)
