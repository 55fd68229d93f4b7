"""What follows from what."""

from __future__ import annotations

from dataclasses import replace

from abliterate.studies.clusters.run import Clusters
from abliterate.studies.clusters.verdicts import (
    CLUSTERS_OF_WORDING,
    ONE,
    SEVERAL,
    anchor_claims,
    conclusion,
    verdicts_of,
)
from abliterate.studies.clusters.wording import Shared


def test_several_directions_need_every_step(three: Clusters) -> None:
    assert conclusion(three) == SEVERAL
    effects = three.effects
    assert conclusion(replace(three, effects=replace(effects, union=None))) == ONE
    assert conclusion(replace(three, effects=replace(effects, diagonal=None))) == ONE
    match = Shared("harmless match", 1.0, 0.001)
    assert conclusion(replace(three, shared=(*three.shared, match))) == CLUSTERS_OF_WORDING


def test_every_claim_has_a_figure_a_control_and_a_verdict(three: Clusters) -> None:
    claims = verdicts_of(three)
    assert len(claims) == 7
    for one in claims:
        assert one.claim
        assert one.figure
        assert one.control
        assert one.verdict
    assert claims[-1].verdict == SEVERAL
    assert claims[-1].sentence.startswith("Several directions: ")
    quick = replace(three, asked=replace(three.asked, quick=True))
    assert verdicts_of(quick)[-1].sentence == ""


def test_anchors_are_judged_for_concept_vectors_alone(three: Clusters) -> None:
    assert anchor_claims(three) == []
    concept = replace(three, asked=replace(three.asked, method="concept"), anchors={("matched", "mean"): 0.3})
    assert anchor_claims(concept)[0].verdict == "the anchor decides"
