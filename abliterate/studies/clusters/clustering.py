"""Clusters of input directions: how many, which prompts, their centroids, and how alike those are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.progress import SILENT, Progress
from abliterate.studies.clusters.inputs import InputDirections
from abliterate.studies.clusters.kmeans import ByDensity, Partition, by_density, spherical_kmeans, unit
from abliterate.studies.clusters.matrix import assigned, random_labels
from abliterate.studies.clusters.stability import NULL, PER_CLUSTER, Choice, choose_k

SPLITS = 200
"""Random splits of equal sizes, for the floor of cosines between centroids..."""

FLOOR_QUANTILE = 0.95


@dataclass(frozen=True)
class Clustering:
    """Clusters of prompts by their input directions: those of `k`, or of the candidate that is looked at where k is 1.

    `asked` is the number that was asked for, None where stability chose.
    """

    own: InputDirections
    choice: Choice
    partition: Partition
    density: ByDensity
    asked: int | None = None
    seed: int = 0

    @property
    def k(self) -> int:
        """Return the number of clusters that is more than all nulls: 1 for none."""
        return self.choice.k

    @property
    def shown(self) -> int:
        """Return the number of clusters that are looked at."""
        return self.partition.k

    @property
    def labels(self) -> NDArray[numpy.intp]:
        """Return the cluster of each prompt, from 0."""
        return self.partition.labels

    @property
    def centroids(self) -> Float[Tensor, "k d_model"]:
        """Return the unit centroids of the clusters that are looked at, the largest first."""
        return torch.from_numpy(self.partition.centroids).float()

    @cached_property
    def closeness(self) -> NDArray[numpy.float64]:
        """Return the cosine of each prompt with the centroid of its cluster."""
        found: NDArray[numpy.float64] = (unit(self.own.rows) * self.partition.centroids[self.labels]).sum(1)
        return found

    def members(self, cluster: int) -> list[int]:
        """Return the places, in what was given, of a cluster's prompts, medoids first."""
        rows = numpy.flatnonzero(self.labels == cluster)
        order = rows[numpy.argsort(-self.closeness[rows], kind="stable")]
        return [self.own.kept[row] for row in order]

    def assign(self, others: InputDirections) -> tuple[NDArray[numpy.intp], NDArray[numpy.float64]]:
        """Return the nearest cluster of other prompts, and the cosine with its centroid."""
        return assigned(unit(others.rows), self.partition.centroids)

    def splits(self, count: int) -> list[NDArray[numpy.float64]]:
        """Return the centroids of random splits into parts as large as the clusters."""
        rng = numpy.random.default_rng([self.seed, 15])
        rows = unit(self.own.rows)
        drawn = []
        for _ in range(count):
            labels = random_labels(self.partition.sizes, rng)
            drawn.append(unit(numpy.stack([rows[labels == place].sum(0) for place in range(self.shown)])))
        return drawn

    @cached_property
    def cosines(self) -> tuple[tuple[int, int, float], ...]:
        """Return the cosine of each pair of centroids."""
        table = self.partition.centroids @ self.partition.centroids.T
        return tuple((one, other, float(table[one, other])) for one, other in combinations(range(self.shown), 2))

    @cached_property
    def floor(self) -> tuple[float, float]:
        """Return the 5% and 95% quantiles of the cosines between centroids of random splits."""
        if self.shown < 2:
            return float("nan"), float("nan")
        drawn = [
            float(one[first] @ one[second])
            for one in self.splits(SPLITS)
            for first, second in combinations(range(self.shown), 2)
        ]
        low, high = numpy.quantile(drawn, (1 - FLOOR_QUANTILE, FLOOR_QUANTILE))
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        """Return numbers, sizes and cosines."""
        return {
            "k": self.k, "shown": self.shown, "asked": self.asked, "sizes": list(self.partition.sizes),
            "choice": self.choice.to_json(), "density": self.density.to_json(),
            "cosines": [{"first": one, "second": other, "cosine": value} for one, other, value in self.cosines],
            "floor": list(self.floor),
        }  # fmt: skip


def cluster(
    own: InputDirections,
    *,
    clusters: Literal["auto"] | int = "auto",
    harmless: InputDirections | None = None,
    null: int = NULL,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Clustering:
    """Cluster prompts by their input directions, and say how many clusters are more than chance.

    `harmless` are the directions of the matched harmless prompts, made in the same way: clusters that those have as well are
    none of refusals. `null` is the number of draws of a Gaussian, and of shuffled coordinates. Raises InputError for fewer than 16 prompts, and for more
    clusters than an eighth of them.

    Examples:
        >>> form, phrases = load_forms()["question"], load_phrases("builtin:phrases-tiny").first(24)
        >>> texts = {side: [Text.of(tokenizer, form, one.on(side)) for one in phrases] for side in ("harmful", "harmless")}
        >>> live = LiveModel.of(model, tokenizer)
        >>> own = input_directions(live, texts["harmful"], 5, "concept", harmless=texts["harmless"])
        >>> found = cluster(own, clusters=2, null=5)
        >>> found.asked, found.centroids.shape
        (2, torch.Size([2, 160]))
    """
    require("study", "clustering", "sklearn")
    most = len(own) // PER_CLUSTER
    if most < 2:
        raise InputError(f"{len(own)} prompts have a direction: too few for clusters; give at least {2 * PER_CLUSTER}")
    if clusters != "auto" and not 1 <= clusters <= most:
        raise InputError(
            f"--clusters {clusters}: {len(own)} prompts are enough for {most} clusters, {PER_CLUSTER} prompts each; give more "
            "prompts, or fewer clusters"
        )
    with progress.step("clustering, and its nulls", null, "nulls") as advance:
        choice = choose_k(own.rows, None if harmless is None else harmless.rows, null=null, seed=seed, advance=advance)
    shown = choice.candidate if clusters == "auto" else clusters
    partition = spherical_kmeans(own.rows, shown, seed=seed)
    density = by_density(own.rows, partition.labels)
    return Clustering(own, choice, partition, density, None if clusters == "auto" else clusters, seed)
