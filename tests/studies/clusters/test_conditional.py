"""Each prompt under the centroid of its own cluster, on the toy whose directions are known."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy
import pytest
import torch

from abliterate.interventions import ablated
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import Form
from abliterate.prompts.phrases import Phrase
from abliterate.prompts.texts import Text
from abliterate.studies.clusters.acting import Acting
from abliterate.studies.clusters.asked import Asked
from abliterate.studies.clusters.clustering import Clustering
from abliterate.studies.clusters.conditional import HeldOut, by_cluster, conditional_of, replies_of
from abliterate.studies.clusters.material import Material
from abliterate.studies.clusters.run import Clusters
from abliterate.studies.clusters.sides import both_sides
from abliterate.studies.replies import Unit
from fixtures.planted_clusters import LAYER, SAFE

Toy = tuple[LiveModel, Material, torch.Tensor]


def test_the_nearest_centroid_does_what_all_of_them_do_and_the_others_nothing(three: Clusters) -> None:
    found = three.conditional
    assert found is not None
    nearest, union, single = found.arms
    assert (nearest.name, union.name) == ("nearest", "union")
    assert nearest.change.value == pytest.approx(union.change.value, abs=0.3)
    assert nearest.change.value < 2 * single.change.value, "one of three directions acts on a third of the prompts"
    assert abs(found.others.value) < 0.3
    assert nearest.divergence.value <= union.divergence.value + 1e-6
    assert found.left_out == (0, 0)
    assert [len(one) for one in found.clusters] == [len(three.material.places("report"))] * 2
    assert nearest.refused is None, "the toy's prompts have no unit to be replied to"
    assert found.to_json()["arms"][0]["refused"] is None


def test_changes_are_those_of_a_batch_in_which_each_centroid_acts_on_its_own_rows(three: Clusters, toy: Toy) -> None:
    live, material, _ = toy
    found = three.conditional
    assert found is not None
    shown = material.places("report")
    tokens = torch.tensor([material.harmful[place].tokens for place in shown])
    clusters = torch.tensor(found.clusters[0])

    def log_odds(logits: torch.Tensor) -> torch.Tensor:
        share = logits[:, -1].softmax(-1)[:, SAFE]
        return (share / (1 - share)).log()

    with torch.no_grad():
        plain = log_odds(live.model(tokens).logits)
        with ExitStack() as under:
            for place, centroid in enumerate(three.centroids):
                under.enter_context(ablated(live.model, centroid, when=clusters == place))
            edited = log_odds(live.model(tokens).logits)
    assert (edited - plain).tolist() == pytest.approx(list(found.arms[0].change.values), abs=1e-3)


def test_clusters_are_decided_on_the_prompt_alone(three: Clusters, toy: Toy) -> None:
    live, material, _ = toy
    asked = Asked("concept", LAYER)
    sides = both_sides(live, material, LAYER, asked)
    acting = Acting(live, LAYER, material.openings)
    best = ("cluster 1", three.centroids[0])
    found = conditional_of(acting, material, three.clustering, sides, best, None, {}, asked)
    assert found is not None
    assert "less the mean of harmless prompts" in found.by
    assert "gradients" in three.conditional.by  # type: ignore[union-attr]
    assert conditional_of(acting, material, one_cluster(three), sides, best, None, {}, asked) is None
    cone = conditional_of(acting, material, three.clustering, sides, best, toy[2], {}, asked)
    assert cone is not None
    assert [one.name for one in cone.arms] == ["nearest", "union", "cluster 1", "cone"]
    assert cone.arms[-1].change.value < -1


def one_cluster(three: Clusters) -> Clustering:
    partition = replace(three.clustering.partition, centroids=three.clustering.partition.centroids[:1])
    return replace(three.clustering, partition=partition)


def test_replies_are_made_cluster_by_cluster(toy: Toy) -> None:
    phrases = tuple(Phrase("a", (f"p{place}",), f"q{place}") for place in range(4))
    texts = tuple(Text((place,), {}) for place in range(4))
    unit = Unit(Form("frame", "user", "complete", user="{p}"), "harmful", phrases, texts)
    asked: list[tuple[int, ...]] = []

    class Told(Acting):
        def refusals(self, unit: Unit, basis: torch.Tensor | None, tokens: int = 32) -> tuple[bool, ...]:
            assert basis is not None
            asked.append((int(basis[0, 0]), *(text.tokens[0] for text in unit.texts)))
            return tuple(text.tokens[0] in (1, 3) for text in unit.texts)

    held = HeldOut((), (), (numpy.array([1, 0, 1]), numpy.array([0])), unit, ((0, 0), (1, 1), (2, 3)))
    found = replies_of(Told(toy[0], LAYER, ()), held, torch.tensor([[5.0], [7.0]]), 8)
    assert found is not None
    assert (found.count, found.total) == (2, 3)
    assert asked == [(5, 1), (7, 0, 3)]
    assert by_cluster(numpy.array([1, 0, 1])) == [(0, [1]), (1, [0, 2])]
