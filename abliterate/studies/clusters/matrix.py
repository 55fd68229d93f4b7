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
    effects: Float[NDArray[numpy.float64], "rows prompts"], clusters: Int[NDArray[numpy.intp], " prompts"], k: int
) -> Float[NDArray[numpy.float64], "rows k"]:
    """Return the mean effect of each row on each cluster, NaN on one without prompts."""
    inside = (clusters[:, None] == numpy.arange(k)).astype(numpy.float64)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[numpy.float64] = (effects @ inside) / inside.sum(0)
    return found


def diagonality(cells: Float[NDArray[numpy.float64], "k k"]) -> float:
    """Return the mean of the diagonal minus the mean beside it; NaN for fewer than two clusters that have prompts.

    A cluster without prompts is left out as row and as column: each row counts on both sides, however strong it is over all.
    """
    seen = numpy.isfinite(cells).all(0)
    own = cells[numpy.ix_(seen, seen)]
    if len(own) < 2:
        return float("nan")
    on = numpy.trace(own)
    return float(on / len(own) - (own.sum() - on) / (len(own) * (len(own) - 1)))


def diagonal_of(
    effects: Float[NDArray[numpy.float64], "k prompts"],
    clusters: Int[NDArray[numpy.intp], " prompts"],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Diagonal | None:
    """Return `D` of as many rows as there are clusters; None where prompts fall into fewer than two clusters."""
    k = len(effects)
    if len(set(clusters.tolist())) < 2:
        return None
    rng = numpy.random.default_rng([seed, 14])
    observed = diagonality(cell_means(effects, clusters, k))
    shuffled = [diagonality(cell_means(effects, rng.permutation(clusters), k)) for _ in range(permutations)]
    p = (1 + sum(one >= observed - 1e-12 for one in shuffled)) / (1 + permutations)
    drawn = []
    for picks in rng.integers(0, len(clusters), (RESAMPLES, len(clusters))):
        one = diagonality(cell_means(effects[:, picks], clusters[picks], k))
        if numpy.isfinite(one):
            drawn.append(one)
    low, high = numpy.percentile(drawn, (2.5, 97.5)) if drawn else (float("nan"),) * 2
    return Diagonal(observed, float(low), float(high), p)


def assigned(
    vectors: Float[NDArray[numpy.float64], "prompts width"], centroids: Float[NDArray[numpy.float64], "k width"]
) -> tuple[NDArray[numpy.intp], NDArray[numpy.float64]]:
    """Return the nearest centroid of each unit vector, and the cosine with it."""
    near = vectors @ centroids.T
    return near.argmax(1), near.max(1)


def random_labels(sizes: Sequence[int], rng: numpy.random.Generator) -> NDArray[numpy.intp]:
    """Return a random split into parts of these sizes."""
    return rng.permutation(numpy.repeat(numpy.arange(len(sizes)), sizes))
