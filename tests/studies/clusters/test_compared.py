"""Directions that clusters are held against."""

from __future__ import annotations

import torch

from abliterate.studies.clusters.compared import (
    CATEGORY,
    CENTROID,
    CONE,
    RANDOM,
    RDO,
    SPLIT,
    difference,
    principal,
    rows_of,
)
from abliterate.studies.clusters.run import Clusters


def test_every_kind_is_there_at_length_one(three: Clusters) -> None:
    own = three.clustering.own
    calm = torch.zeros(4, 64) + torch.eye(64)[:4]
    categories = [three.material.attributes["category"][place] for place in own.kept]
    trained = {RDO: torch.ones(1, 64), CONE: torch.eye(64)[:2]}
    rows = rows_of(three.clustering, calm, categories, ("categories",), trained, controls=2)
    kinds = [one.kind for one in rows]
    assert [kinds.count(kind) for kind in (CENTROID, CATEGORY, RDO, CONE, "principal", RANDOM, SPLIT)] == [
        3,
        3,
        1,
        2,
        3,
        2,
        6,
    ]
    assert [one.name for one in rows if one.kind in (RDO, CONE)] == ["rdo", "cone 1", "cone 2"]
    assert all(abs(float(one.vector.norm()) - 1) < 1e-5 for one in rows)
    assert not any(one.kind in (CATEGORY, "som") for one in rows_of(three.clustering, calm, categories, (), {}))


def test_principal_directions_are_turned_to_the_mean(three: Clusters) -> None:
    own = three.clustering.own
    axes = principal(own, 3)
    assert torch.allclose(axes @ axes.T, torch.eye(3), atol=1e-4)
    assert bool((axes @ own.vectors.mean(0) >= 0).all())


def test_the_difference_in_means_is_that_of_states() -> None:
    assert difference(torch.tensor([[3.0, 1.0], [5.0, 1.0]]), torch.tensor([[1.0, 1.0]])).tolist() == [3.0, 0.0]
