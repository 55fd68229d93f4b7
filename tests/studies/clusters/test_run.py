"""Toys whose answer is known, and what a study refuses."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.clusters.asked import Asked
from abliterate.studies.clusters.run import Clusters, check_possible, studied, vectors_to_save
from abliterate.studies.clusters.verdicts import CLUSTERS_OF_WORDING, ONE, SEVERAL, conclusion
from fixtures.planted_clusters import LAYER, planted_clusters


def test_three_planted_directions_are_three_clusters_that_act_on_their_own(
    three: Clusters, toy: tuple[LiveModel, object, torch.Tensor]
) -> None:
    assert three.k == 3
    assert float((three.centroids @ toy[2].T).max(1).values.min()) >= 0.95
    diagonal = three.effects.diagonal
    assert diagonal is not None
    assert diagonal.p < 0.01
    assert conclusion(three) == SEVERAL


@pytest.mark.slow
def test_one_planted_direction_is_enough() -> None:
    live, material, refuse = planted_clusters(1, count=32)
    found = studied(live, material, Asked(layer=LAYER, compare=(), null=3))
    assert found.k == 1
    assert conclusion(found) == ONE
    assert float((found.centroids @ refuse.T).min()) >= 0.95
    assert "no number of clusters is more than all nulls" in found.notes[-1]


@pytest.mark.slow
def test_three_wordings_of_one_direction_are_clusters_of_wording() -> None:
    live, material, _ = planted_clusters(3, gated=False)
    asked = Asked("concept", LAYER, anchor="mean", compare=(), null=3)
    found = studied(live, material, asked)
    assert found.clustering.choice.against_drawn == 3, "drawn nulls alone are fooled"
    assert found.k == 1, "harmless phrases have the same clusters"
    assert conclusion(found) == CLUSTERS_OF_WORDING
    matched = studied(live, material, Asked("concept", LAYER, compare=(), null=3))
    assert conclusion(matched) == ONE, "held against their matches, wordings are gone"


def test_a_layer_out_of_range_and_few_digits_are_refused(toy: tuple[LiveModel, object, torch.Tensor]) -> None:
    live = toy[0]
    with pytest.raises(InputError, match="--layer 4 is out of range; this model has layers 1 to 3"):
        check_possible(live, Asked(layer=4))
    live, *_ = planted_clusters(1)
    live.model.to(torch.bfloat16)
    with pytest.raises(InputError, match=r"gradients in bfloat16 are noise; .*--dtype float32"):
        check_possible(live, Asked(layer=2))


def test_centroids_and_what_they_are_held_against_are_saved(three: Clusters) -> None:
    saved = vectors_to_save(three)
    assert {"prompt/cluster-1/resid.2", "prompt/difference-in-means/resid.2", "prompt/principal-3/resid.2"} <= set(
        saved
    )
    assert not any("random" in name or "split" in name for name in saved)
