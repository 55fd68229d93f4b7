"""What each direction does to each cluster of prompts that it was not made of: is the diagonal the strongest?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from jaxtyping import Float, Int
from numpy.typing import NDArray

from abliterate.evaluation.statistics import json_number

PERMUTATIONS = 2000
RESAMPLES = 1000


@dataclass(frozen=True)
class Diagonal:
    """`D`, the mean effect of centroids on their own cluster minus that on others, its 95% interval, and its p-value.

    Effects count as how far refusal falls. The interval is a bootstrap over prompts; p is of permuted assignments.
    """

    value: float
    low: float
    high: float
    p: float

    @property
    def shown(self) -> bool:
        """Return whether each centroid acts most on its own cluster."""
        return self.value > 0 and self.p < 0.05

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {name: json_number(value) for name, value in vars(self).items()}


def cell_means(
    effects: Float[NDArray[numpy.float64], "rows prompts"],
    clusters: Int[NDArray[numpy.intp], "*draws prompts"],
    k: int,
    counts: Int[NDArray[numpy.intp], "*draws prompts"] | None = None,
) -> Float[NDArray[numpy.float64], "*draws rows k"]:
    """Return the mean effect of each row on each cluster, NaN on one without prompts; `counts` says how often a prompt is drawn."""
    inside = (clusters[..., None] == numpy.arange(k)).astype(numpy.float64)
    if counts is not None:
        inside = inside * counts[..., None]
    with numpy.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[numpy.float64] = (effects @ inside) / inside.sum(-2, keepdims=True)
    return found


def diagonality(cells: Float[NDArray[numpy.float64], "*draws k k"]) -> NDArray[numpy.float64]:
    """Return the mean of the diagonal minus the mean beside it; NaN for fewer than two clusters that have prompts.

    A cluster without prompts is left out as row and as column: each row counts on both sides, however strong it is over all.
    """
    seen = numpy.asarray(numpy.isfinite(cells).all(-2))
    inside = seen[..., None] & seen[..., None, :]
    kept = numpy.where(inside, cells, 0.0)
    count = seen.sum(-1)
    on = numpy.trace(kept, axis1=-2, axis2=-1)
    beside = kept.sum((-1, -2)) - on
    with numpy.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[numpy.float64] = on / count - beside / (count * (count - 1))
    return numpy.where(count < 2, numpy.nan, found)


def diagonal_of(
    effects: Float[NDArray[numpy.float64], "k prompts"],
    clusters: Int[NDArray[numpy.intp], " prompts"],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Diagonal | None:
    """Return `D` of as many rows as there are clusters; None where prompts fall into fewer than two clusters."""
    k, count = len(effects), len(clusters)
    if len(set(clusters.tolist())) < 2:
        return None
    rng = numpy.random.default_rng([seed, 14])
    observed = float(diagonality(cell_means(effects, clusters, k)))
    orders = rng.permuted(numpy.tile(clusters, (permutations, 1)), axis=1)
    above = int((diagonality(cell_means(effects, orders, k)) >= observed - 1e-12).sum())
    counts = rng.multinomial(count, numpy.full(count, 1 / count), size=RESAMPLES)
    drawn = diagonality(cell_means(effects, numpy.tile(clusters, (RESAMPLES, 1)), k, counts))
    low, high = numpy.nanpercentile(drawn, (2.5, 97.5))
    return Diagonal(observed, float(low), float(high), (1 + above) / (1 + permutations))


def assigned(
    vectors: Float[NDArray[numpy.float64], "prompts width"], centroids: Float[NDArray[numpy.float64], "k width"]
) -> tuple[NDArray[numpy.intp], NDArray[numpy.float64]]:
    """Return the nearest centroid of each unit vector, and the cosine with it."""
    near = vectors @ centroids.T
    return near.argmax(1), near.max(1)


def random_labels(sizes: Sequence[int], rng: numpy.random.Generator) -> NDArray[numpy.intp]:
    """Return a random split into parts of these sizes."""
    return rng.permutation(numpy.repeat(numpy.arange(len(sizes)), sizes))
