"""Clusters of input directions."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.studies.clusters.clustering import cluster
from abliterate.studies.clusters.inputs import InputDirections
from abliterate.studies.clusters.run import Clusters


def test_centroids_lie_below_the_floor_of_random_splits(three: Clusters) -> None:
    found = three.clustering
    assert found.shown == 3
    low, high = found.floor
    assert 0.5 < low <= high <= 1
    assert all(value < low for *_, value in found.cosines)
    assert [len(found.members(place)) for place in range(3)] == list(found.partition.sizes)


def test_medoids_come_first(three: Clusters) -> None:
    found = three.clustering
    rows = {place: row for row, place in enumerate(found.own.kept)}
    near = [found.closeness[rows[place]] for place in found.members(0)]
    assert near == sorted(near, reverse=True)


def test_held_out_prompts_go_to_their_kind(three: Clusters) -> None:
    held = three.own.of(three.material.places("report"))
    labels, near = three.clustering.assign(held)
    kinds = [three.material.attributes["category"][place] for place in held.kept]
    assert len(set(zip(labels.tolist(), kinds, strict=True))) == 3
    assert float(near.min()) > 0.9


def test_more_clusters_than_an_eighth_of_the_prompts_are_refused() -> None:
    rows = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    own = InputDirections(rows, rows, 1, "concept", tuple(range(20)))
    with pytest.raises(InputError, match="--clusters 3: 20 prompts are enough for 2 clusters, 8 prompts each"):
        cluster(own, clusters=3)
    with pytest.raises(InputError, match="12 prompts have a direction: too few for clusters"):
        cluster(own.of(range(12)))
    found = cluster(own, clusters=2, null=2)
    assert (found.shown, found.asked) == (2, 2)
