"""Directions of both sides, and of a prompt on its own."""

from __future__ import annotations

import torch

from abliterate.models.live_model import LiveModel
from abliterate.studies.clusters.asked import Asked
from abliterate.studies.clusters.material import Material
from abliterate.studies.clusters.run import Clusters
from abliterate.studies.clusters.sides import both_sides, without_frames
from fixtures.planted_clusters import LAYER

Toy = tuple[LiveModel, Material, torch.Tensor]


def test_gradients_are_a_prompts_own_and_harmless_ones_are_of_the_report_part(toy: Toy) -> None:
    live, material, _ = toy
    found = both_sides(live, material, LAYER, Asked(layer=LAYER))
    shown = material.places("report")
    assert list(found.calm.kept) == material.places("train")
    assert [list(one.kept) for one in found.alone] == [shown, shown]
    assert torch.equal(found.alone[0].vectors, found.own.of(shown).vectors)


def test_without_gradients_no_match_decides(toy: Toy) -> None:
    live, material, _ = toy
    asked = Asked("concept", LAYER)
    found = both_sides(live, material, LAYER, asked)
    swapped = Material(**{**vars(material), "harmless": swapped_report(material)})
    other = both_sides(live, swapped, LAYER, asked)
    assert torch.equal(found.alone[0].vectors, other.alone[0].vectors), (
        "what is said of a prompt hangs on none of the report part"
    )
    assert not torch.equal(found.own.vectors, other.own.vectors)
    assert found.alone[1].layer == LAYER


def swapped_report(material: Material) -> tuple[object, ...]:
    texts, shown = list(material.harmless), material.places("report")
    for place, other in zip(shown, reversed(shown), strict=True):
        texts[place] = material.harmless[other]
    return tuple(texts)


def test_what_frames_have_of_their_own_is_taken_away(three: Clusters) -> None:
    own = three.own
    names = [str(place % 2) for place in range(48)]
    shifted = own.vectors + torch.tensor([3.0 * (place % 2) for place in own.kept])[:, None] * own.vectors[0]
    found = without_frames(type(own)(shifted, own.states, own.layer, own.method, own.kept), names)
    means = [found.vectors[[place for place in range(48) if place % 2 == side]].mean(0) for side in (0, 1)]
    assert float(torch.nn.functional.cosine_similarity(*means, dim=0)) > 0.9
