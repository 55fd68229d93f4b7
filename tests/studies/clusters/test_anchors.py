"""How far clusters hang on the anchor."""

from __future__ import annotations

import torch

from abliterate.studies.clusters.anchors import anchor_agreements, specific_agreement
from abliterate.studies.clusters.run import Clusters


def test_every_pair_of_anchors_is_compared(three: Clusters) -> None:
    assert set(three.anchors) == {
        ("matched", "mean"), ("matched", "nearest"), ("matched", "gradient"), ("mean", "nearest"), ("mean", "gradient"),
        ("nearest", "gradient"),
    }  # fmt: skip
    assert all(-1 <= value <= 1 for value in three.anchors.values())


def test_an_anchor_without_distance_is_left_out(three: Clusters) -> None:
    own = three.clustering.own
    found = anchor_agreements(own, own.states, 2)
    assert not any("matched" in pair for pair in found)


def test_what_is_specific_to_the_input_makes_the_same_clusters_of_the_toy(three: Clusters) -> None:
    assert three.specific is not None
    assert three.specific > 0.9
    own = three.clustering.own
    without = type(own)(own.vectors, own.states, own.layer, "concept", own.kept)
    assert specific_agreement(without, torch.zeros(64), three.clustering.labels, 3) is None
