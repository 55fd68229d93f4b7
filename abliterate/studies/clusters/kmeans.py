"""Spherical k-means: clusters of unit vectors by cosine, and a second opinion by density.

Lloyd's iteration with unit centroids (Dhillon & Modha 2001) from k-means++ starts, of which the best is kept. Rows are put
into the coordinates of their own span first: cosines are the same, and there are fewer numbers than in a wide model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from jaxtyping import Float, Int
from numpy.typing import NDArray

from abliterate.extras import require

Numbers = NDArray[numpy.float64]
Labels = NDArray[numpy.intp]

STARTS = 20
ITERATIONS = 50


@dataclass(frozen=True)
class Partition:
    """The cluster of each row, and unit centroids; clusters are in the order of their size, the largest first."""

    labels: Int[NDArray[numpy.intp], " rows"]
    centroids: Float[NDArray[numpy.float64], "k width"]

    @property
    def k(self) -> int:
        """Return the number of clusters."""
        return len(self.centroids)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return how many rows each cluster has."""
        return tuple(numpy.bincount(self.labels, minlength=self.k).tolist())


def unit(rows: Float[NDArray[numpy.float64], "*rows width"]) -> Float[NDArray[numpy.float64], "*rows width"]:
    """Return rows at length 1; rows without length stay so."""
    lengths = numpy.linalg.norm(rows, axis=-1, keepdims=True)
    found: Numbers = rows / numpy.where(lengths > 0, lengths, 1)
    return found


def in_span(rows: Float[NDArray[numpy.float64], "rows width"]) -> Float[NDArray[numpy.float64], "rows span"]:
    """Return the coordinates of rows in their span: products between rows stay as they are."""
    if rows.shape[1] <= len(rows):
        return rows
    left, lengths, _ = numpy.linalg.svd(rows, full_matrices=False)
    found: Numbers = left * lengths
    return found


def spherical_kmeans(
    rows: Float[NDArray[numpy.float64], "rows width"], k: int, *, starts: int = STARTS, seed: int = 0
) -> Partition:
    """Return `k` clusters of rows by cosine: of some starts the one whose rows lie closest to their centroids."""
    vectors = unit(rows)
    labels = best_labels(in_span(vectors), k, starts, numpy.random.RandomState(seed))
    order = numpy.argsort(-numpy.bincount(labels, minlength=k), kind="stable")
    ranks = numpy.empty(k, dtype=numpy.intp)
    ranks[order] = numpy.arange(k)
    labels = ranks[labels]
    sums = numpy.stack([vectors[labels == place].sum(0) for place in range(k)])
    return Partition(labels, unit(sums))


def best_labels(
    vectors: Float[NDArray[numpy.float64], "rows width"], k: int, starts: int, random: numpy.random.RandomState
) -> Int[NDArray[numpy.intp], " rows"]:
    """Return the labels of unit rows; all starts run side by side."""
    if k == 1:
        return numpy.zeros(len(vectors), dtype=numpy.intp)
    centroids = vectors[seeds(vectors, k, starts, random)]
    labels = numpy.full((starts, len(vectors)), -1)
    for _ in range(ITERATIONS):
        near = vectors @ centroids.transpose(0, 2, 1)
        found = near.argmax(-1)
        if (found == labels).all():
            break
        labels = found
        inside = (labels[:, None, :] == numpy.arange(k)[:, None]).astype(numpy.float64)
        sums = inside @ vectors
        # A cluster that lost all of its rows keeps its centroid.
        centroids = numpy.where(inside.any(-1, keepdims=True), unit(sums), centroids)
    closeness = numpy.take_along_axis(vectors @ centroids.transpose(0, 2, 1), labels[..., None], -1).sum((1, 2))
    chosen: Labels = labels[closeness.argmax()].astype(numpy.intp)
    return chosen


def seeds(
    vectors: Float[NDArray[numpy.float64], "rows width"], k: int, starts: int, random: numpy.random.RandomState
) -> Int[NDArray[numpy.intp], "starts k"]:
    """Return the rows that each start begins at: greedy k-means++ (Arthur & Vassilvitskii 2007), all starts side by side.

    As `sklearn.cluster.kmeans_plusplus`, which takes one start at a time, and whose checks take longer than its work.
    """
    apart = numpy.maximum(2 - 2 * vectors @ vectors.T, 0)  # squared distances of unit rows
    trials = 2 + int(numpy.log(k))
    chosen = random.randint(len(vectors), size=(starts, 1))
    near = apart[chosen[:, 0]]
    for _ in range(1, k):
        bounds = near.cumsum(1)
        drawn = random.uniform(size=(starts, trials)) * bounds[:, -1:]
        tried = (bounds[:, None] < drawn[..., None]).sum(-1).clip(max=len(vectors) - 1)
        left = numpy.minimum(near[:, None], apart[tried])
        best = left.sum(-1).argmin(1)[:, None]
        chosen = numpy.concatenate([chosen, numpy.take_along_axis(tried, best, 1)], axis=1)
        near = numpy.take_along_axis(left, best[..., None], 1)[:, 0]
    return chosen


def agreement(first: Int[NDArray[numpy.intp], " rows"], second: Int[NDArray[numpy.intp], " rows"]) -> float:
    """Return the adjusted Rand index of two labellings from 0 up (Hubert & Arabie 1985): 1 for the same, 0 by chance.

    As `sklearn.metrics.adjusted_rand_score`, whose checks take longer than its sums.
    """
    width = int(second.max()) + 1
    table = numpy.bincount(first * width + second, minlength=(int(first.max()) + 1) * width).reshape(-1, width)

    def pairs(counts: NDArray[numpy.intp]) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, own, other, total = pairs(table), pairs(table.sum(1)), pairs(table.sum(0)), len(first) * (len(first) - 1) / 2
    chance = own * other / total
    most = (own + other) / 2
    return 1.0 if most == chance else (both - chance) / (most - chance)


def silhouette(
    vectors: Float[NDArray[numpy.float64], "rows width"], labels: Int[NDArray[numpy.intp], " rows"]
) -> float:
    """Return the mean silhouette of unit rows by cosine distance (Rousseeuw 1987); 0 where there is one cluster."""
    names = numpy.unique(labels)
    if len(names) < 2:
        return 0.0
    inside = labels[:, None] == names
    counts = inside.sum(0)
    total = (1 - vectors @ vectors.T) @ inside
    own = numpy.searchsorted(names, labels)
    alone = counts[own] == 1
    at = numpy.arange(len(labels))
    within = total[at, own] / numpy.maximum(counts[own] - 1, 1)
    between = numpy.where(inside, numpy.inf, total / counts).min(1)
    widest = numpy.maximum(numpy.maximum(within, between), 1e-12)
    return float(numpy.where(alone, 0.0, (between - within) / widest).mean())


@dataclass(frozen=True)
class ByDensity:
    """HDBSCAN's clusters of the same rows: how many, how many rows in none, and its agreement with k-means."""

    clusters: int
    outside: int
    agreement: float

    def to_json(self) -> dict[str, object]:
        """Return all of it."""
        return dict(vars(self))


def by_density(
    rows: Float[NDArray[numpy.float64], "rows width"], labels: Int[NDArray[numpy.intp], " rows"]
) -> ByDensity:
    """Return a second opinion by HDBSCAN (Campello et al. 2013), and its adjusted Rand index with `labels`."""
    require("study", "clustering", "sklearn")
    from sklearn.cluster import HDBSCAN

    smallest = max(3, len(rows) // 16)
    found = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(in_span(unit(rows)))
    return ByDensity(len(set(found.tolist()) - {-1}), int((found == -1).sum()), agreement(labels, found + 1))
