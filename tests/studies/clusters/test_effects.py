"""What directions do, on the toy whose directions are known."""

from __future__ import annotations

import numpy
import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.clusters.acting import Acting
from abliterate.studies.clusters.compared import RANDOM, SPLIT
from abliterate.studies.clusters.effects import effects, weakened
from abliterate.studies.clusters.material import Material
from abliterate.studies.clusters.run import Clusters


def test_each_centroid_acts_on_its_own_cluster_and_random_ones_on_none(three: Clusters) -> None:
    found = three.effects
    matrix = found.matrix
    assert numpy.all(numpy.diag(matrix[:3]) < -1)
    assert numpy.all(numpy.abs(matrix[:3][~numpy.eye(3, dtype=bool)]) < 0.5)
    random = [place for place, one in enumerate(found.rows) if one.kind == RANDOM]
    assert numpy.all(numpy.abs(matrix[random]) < 1)
    assert found.diagonal is not None
    assert all(one is None or one.value < found.diagonal.value for one in found.splits)


def test_all_at_once_do_more_than_the_best_single_one_at_equal_divergence(three: Clusters) -> None:
    union = three.effects.union
    assert union is not None
    assert union.better
    assert union.divergences[0] <= union.divergences[1] * 1.5 + 1e-6
    assert union.to_json()["better"] is True


def test_the_record_has_no_rows_of_random_splits(three: Clusters) -> None:
    rows = three.effects.to_json()["rows"]
    assert SPLIT not in {row["kind"] for row in rows}
    assert len(rows[0]["by_cluster"]) == 3
    assert rows[0]["ablated"]["mean"] < 0


def test_effects_from_python(three: Clusters, toy: tuple[LiveModel, Material, torch.Tensor]) -> None:
    live, material, _ = toy
    places = material.places("report")
    texts = [material.harmful[place] for place in places]
    own = three.own.of(places)
    table = effects(
        live, three.clustering, texts, own, harmless=material.harmless[:8], openings=material.openings, controls=1
    )
    assert table.matrix.shape == (3 + 1 + 3 + 1 + 3, 3)
    assert table.diagonal is not None
    assert table.diagonal.value > 1
    with pytest.raises(InputError, match="give the direction of each"):
        effects(live, three.clustering, texts[1:], own, harmless=material.harmless[:8], openings=material.openings)


def test_an_ablation_is_made_as_weak_as_it_must_be(toy: tuple[LiveModel, Material, torch.Tensor]) -> None:
    class Moving(Acting):
        def divergence(self, basis: object, prompts: object, strength: float = 1.0) -> float:
            return strength**2

    strength, moved = weakened(Moving(toy[0], 2, ()), torch.zeros(1, 64), (), 0.25)
    assert strength == pytest.approx(0.5, abs=0.02)
    assert moved <= 0.25
