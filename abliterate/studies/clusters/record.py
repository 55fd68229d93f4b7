"""`clusters.json`: clusters with their nulls, what they share with words, what directions do, beside their controls."""

from __future__ import annotations

from typing import Any

import torch

from abliterate.evaluation.statistics import Rate, json_number, mean_of
from abliterate.studies.clusters.compared import CONE, CONTROL_KINDS, RDO
from abliterate.studies.clusters.geometry import plane_of
from abliterate.studies.clusters.run import Clusters
from abliterate.studies.clusters.stability import NULLS
from abliterate.studies.clusters.verdicts import conclusion, verdicts_of
from abliterate.studies.clusters.walks import ETA, FURTHEST, SATURATED, STEPS

MEDOIDS = 5
"""Phrases of each cluster that are named, those closest to the centroid first."""

__all__ = ["controls_of", "results_of", "settings_of", "verdicts_of"]


def settings_of(found: Clusters) -> dict[str, Any]:
    """Return what the study was asked, besides what all studies are."""
    asked = found.asked
    return {
        "method": asked.method, "layer": found.layer, "clusters": asked.clusters, "anchor": asked.anchor,
        "target": asked.target, "step": asked.step, "compare": list(asked.compare), "tokens": asked.tokens,
        "enough": asked.enough, "eta": ETA, "steps": STEPS, "furthest": FURTHEST, "saturated": SATURATED,
    }  # fmt: skip


def results_of(found: Clusters) -> dict[str, Any]:
    """Return the results: prompts and their walks, clusters, what they share, cosines, effects."""
    material, clustering = found.material, found.clustering
    refused = Rate(sum(material.refused), len(material.refused))
    return {
        "conclusion": conclusion(found),
        "refused": refused.to_json(),
        "openings": {
            "refusal": len(material.targets.refusal), "answer": len(material.targets.answer), "log_odds": len(material.openings),
        },
        "directions": directions_json(found),
        "clusters": {
            **clustering.to_json(),
            "vocabulary": found.words.vocabulary if found.words else None,
            "members": [
                {
                    "size": size, "closeness": sum(own) / len(own),
                    "medoids": [material.names[place] for place in clustering.members(cluster)[:MEDOIDS]],
                    "words": list(found.words.words[cluster]) if found.words else None,
                }
                for cluster, size in enumerate(clustering.partition.sizes)
                if (own := clustering.closeness[clustering.labels == cluster].tolist())
            ],
        },
        "shared": [one.to_json() for one in found.shared],
        "cosines": {name: [list(row) for row in table] for name, table in found.cosines.items()},
        "closeness": {name: one.to_json() for name, one in zip(("train", "held_out"), found.closeness, strict=True)},
        "anchors": [{"first": one, "second": other, "agreement": value} for (one, other), value in found.anchors.items()],
        "specific_agreement": found.specific,
        "effects": found.effects.to_json(),
        "conditional": found.conditional.to_json() if found.conditional else None,
        "independence": found.independence.to_json() if found.independence else None,
        **{kind: found.trained[kind].to_json() if kind in found.trained else None for kind in (RDO, CONE)},
        "plane": {
            **plane_of(clustering),
            "labels": [int(label) for label in clustering.labels],
            "phrases": [material.names[place] for place in clustering.own.kept],
            "categories": [material.attributes["category"][place] for place in clustering.own.kept],
        },
    }  # fmt: skip


def directions_json(found: Clusters) -> dict[str, Any]:
    """Return how many prompts have a direction, how alike those are, and f along the walks."""
    own, calm = found.own, found.calm
    return {
        "harmful": len(own), "harmless": len(calm),
        "dropped": {"harmful": dict(own.dropped or {}), "harmless": dict(calm.dropped or {})},
        "mean_cosine": {"harmful": json_number(found.between[0]), "harmless": json_number(found.between[1])},
        "cosine_with_state": mean_of(torch.nn.functional.cosine_similarity(own.vectors, own.states).tolist()).to_json(),
        "crossed": Rate(sum(one.crossed for one in own.walks), len(own.walks)).to_json() if own.walks else None,
        "reach": found.reach.to_json() if found.reach else None,
        "walks": [one.to_json() for one in own.walks],
    }  # fmt: skip


def controls_of(found: Clusters) -> dict[str, Any]:
    """Return what stands beside the results: random directions, random splits, the nulls of the number of clusters."""
    effects = found.effects.to_json()
    return {
        "random": [row for row in effects["rows"] if row["kind"] in CONTROL_KINDS],
        "splits": [one.to_json() if one else None for one in found.effects.splits],
        "nulls": [{name: row[name] for name in ("k", *NULLS)} for row in found.clustering.choice.to_json()["spreads"]],
        "floor": list(found.clustering.floor),
    }
