"""Where clusters lie."""

from __future__ import annotations

import torch

from abliterate.studies.clusters.geometry import mean_cosine, mean_gradient, plane_of
from abliterate.studies.clusters.run import Clusters


def test_the_mean_cosine_leaves_out_rows_with_themselves() -> None:
    rows = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    assert abs(mean_cosine(rows) - 1 / 3) < 1e-9
    assert mean_cosine(rows[:1]) != mean_cosine(rows[:1])


def test_clusters_are_told_from_the_difference_in_means_of_every_layer(three: Clusters) -> None:
    table = three.cosines["difference in means"]
    assert len(table) == 3
    assert len(table[0]) == 5
    assert len(three.cosines["harmless gradient"][0]) == 1
    assert three.reach is not None
    assert 0 <= three.reach.value <= 1
    usual = mean_gradient(three.calm)
    assert usual is not None
    assert usual.shape == (64,)


def test_the_plane_has_a_point_for_each_prompt(three: Clusters) -> None:
    plane = plane_of(three.clustering)
    assert len(plane["points"]) == len(three.clustering.own)
    assert len(plane["centroids"]) == 3
    assert 0.5 < sum(plane["explained"]) <= 1 + 1e-9
