"""How many clusters: the smallest number that is more stable, and better apart, than what has no clusters.

For each k the rows are clustered again on resamples without replacement, and compared with the clusters of all by the
adjusted Rand index. Three nulls go through the same: Gaussians of the rows' own mean and covariance, and the rows with each
coordinate shuffled among them on its own, both drawn anew for every list; and the same vectors of the harmless phrases that match.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from jaxtyping import Float
from numpy.typing import NDArray

from abliterate.evaluation.statistics import json_number
from abliterate.studies.clusters.kmeans import Numbers, agreement, best_labels, in_span, silhouette, unit

LARGEST = 8
RESAMPLES = 20
SHARE = 0.7
NULL = 50
QUANTILE = 0.95

FEW_STARTS = 10
"""Starts of k-means where it runs thousands of times, on rows and nulls alike: with 4 the seed moves stabilities by .1 and more."""

NULLS = tuple(f"{null}_{figure}" for null in ("null", "shuffled", "harmless") for figure in ("stability", "silhouette"))
"""What a record holds of each null, of each number of clusters."""

PER_CLUSTER = 8
"""Prompts that a cluster needs, on average."""


@dataclass(frozen=True)
class Spread:
    """One k: mean stability and silhouette of the rows, the 95% quantiles of both drawn nulls, and what harmless rows have.

    `null_` is of the Gaussian, `shuffled_` of shuffled coordinates.
    """

    k: int
    stability: float
    silhouette: float
    null_stability: float
    null_silhouette: float
    shuffled_stability: float
    shuffled_silhouette: float
    harmless_stability: float | None = None
    harmless_silhouette: float | None = None

    @property
    def beyond_null(self) -> bool:
        """Return whether the clusters are more than those of a Gaussian."""
        return self.stability > self.null_stability and self.silhouette > self.null_silhouette

    @property
    def beyond_shuffled(self) -> bool:
        """Return whether they are more than those of shuffled coordinates."""
        return self.stability > self.shuffled_stability and self.silhouette > self.shuffled_silhouette

    @property
    def beyond_drawn(self) -> bool:
        """Return whether they are more than those of both drawn nulls."""
        return self.beyond_null and self.beyond_shuffled

    @property
    def beyond_harmless(self) -> bool:
        """Return whether they are more than those of harmless phrases; so where there are none."""
        if self.harmless_stability is None or self.harmless_silhouette is None:
            return True
        return self.stability > self.harmless_stability and self.silhouette > self.harmless_silhouette

    @property
    def beyond_all(self) -> bool:
        """Return whether they are more than those of every null."""
        return self.beyond_drawn and self.beyond_harmless

    def to_json(self) -> dict[str, Any]:
        """Return all of it, with what follows."""
        numbers = {name: json_number(one) if isinstance(one, float) else one for name, one in vars(self).items()}
        beyond = ("beyond_null", "beyond_shuffled", "beyond_harmless", "beyond_all")
        return {**numbers, **{name: getattr(self, name) for name in beyond}}


@dataclass(frozen=True)
class Choice:
    """The number of clusters, and what it was chosen from.

    `k` is 1 where no number is beyond all nulls; `against_drawn` is the smallest beyond the drawn ones alone (1 for none), and
    `candidate` the number whose clusters are looked at: `k`, else `against_drawn`, else what is furthest beyond the drawn nulls.
    """

    spreads: tuple[Spread, ...]

    @property
    def k(self) -> int:
        """Return the smallest number of clusters beyond all nulls, else 1."""
        return next((one.k for one in self.spreads if one.beyond_all), 1)

    @property
    def against_drawn(self) -> int:
        """Return the smallest number of clusters beyond the Gaussian and beyond shuffled coordinates, else 1."""
        return next((one.k for one in self.spreads if one.beyond_drawn), 1)

    @property
    def candidate(self) -> int:
        """Return the number of clusters to look at: 1 only where rows are too few for two."""
        if max(self.k, self.against_drawn) > 1:
            return self.k if self.k > 1 else self.against_drawn
        best = max(
            self.spreads,
            key=lambda one: one.stability - max(one.null_stability, one.shuffled_stability),
            default=None,
        )
        return best.k if best else 1

    def to_json(self) -> dict[str, Any]:
        """Return the numbers and all spreads."""
        return {
            "k": self.k,
            "against_drawn": self.against_drawn,
            "candidate": self.candidate,
            "spreads": [one.to_json() for one in self.spreads],
        }


def choose_k(
    rows: Float[NDArray[numpy.float64], "rows width"],
    harmless: Float[NDArray[numpy.float64], "harmless width"] | None = None,
    *,
    null: int = NULL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> Choice:
    """Return the spread of rows for each number of clusters from 2 on, beside all nulls.

    `null` is the number of draws of a Gaussian, and as many of shuffled coordinates; `advance` is told of each of these pairs.
    """
    ks = range(2, min(LARGEST, len(rows) // PER_CLUSTER) + 1)
    whole = unit(rows)
    own = in_span(whole)
    rng, shuffling = (numpy.random.default_rng([seed, one]) for one in (11, 16))
    found = spread_of(own, ks, resamples, seed)
    drawn, shuffled = [], []
    for number in range(null):
        drawn.append(spread_of(gaussian_like(own, rng), ks, resamples, seed + number))
        shuffled.append(spread_of(in_span(shuffled_like(whole, shuffling)), ks, resamples, seed + number))
        advance(1)
    other = None if harmless is None else spread_of(in_span(unit(harmless)), ks, resamples, seed)
    spreads = []
    for place, k in enumerate(ks):
        least = [numpy.quantile([one[place] for one in some], QUANTILE, axis=0).tolist() for some in (drawn, shuffled)]
        beside = (None, None) if other is None else other[place]
        spreads.append(Spread(k, *found[place], *least[0], *least[1], *beside))
    return Choice(tuple(spreads))


def gaussian_like(rows: Float[NDArray[numpy.float64], "rows width"], rng: numpy.random.Generator) -> Numbers:
    """Return as many unit rows from a Gaussian with the mean and the covariance of `rows`."""
    mean = rows.mean(0)
    drawn = rng.standard_normal((len(rows), len(rows))) @ (rows - mean) / numpy.sqrt(len(rows) - 1)
    return unit(mean + drawn)


def shuffled_like(rows: Float[NDArray[numpy.float64], "rows width"], rng: numpy.random.Generator) -> Numbers:
    """Return unit rows of which each coordinate is that of some row, shuffled among the rows on its own.

    Coordinates are those of the residual stream: each keeps its values, and nothing ties one to another.
    """
    return unit(rng.permuted(rows, axis=0))


def spread_of(
    vectors: Float[NDArray[numpy.float64], "rows width"], ks: Sequence[int], resamples: int, seed: int
) -> list[tuple[float, float]]:
    """Return mean stability and silhouette of unit rows for each number of clusters."""
    rng = numpy.random.default_rng([seed, 12])
    parts = [numpy.sort(rng.permutation(len(vectors))[: max(2, round(SHARE * len(vectors)))]) for _ in range(resamples)]
    random = numpy.random.RandomState(seed)
    found = []
    for k in ks:
        labels = best_labels(vectors, k, FEW_STARTS, random)
        agree = [agreement(labels[part], best_labels(vectors[part], k, FEW_STARTS, random)) for part in parts]
        found.append((sum(agree) / len(agree), silhouette(vectors, labels)))
    return found
