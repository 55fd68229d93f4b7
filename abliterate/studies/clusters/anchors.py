"""How far clusters of concept vectors hang on what states are held against, and clusters of gradients on what all share.

The adjusted Rand index between the clusters of two ways of making the vectors: below .5 the anchor decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from abliterate.studies.clusters.inputs import InputDirections, anchors_of
from abliterate.studies.clusters.kmeans import agreement, spherical_kmeans, unit
from abliterate.studies.clusters.options import Anchor

DECIDES = 0.5
"""Agreement below which the anchor decides what the clusters are."""


def anchor_agreements(
    own: InputDirections, calm: Float[Tensor, "prompts d_model"], k: int, seed: int = 0
) -> dict[tuple[str, str], float]:
    """Return the agreement between the clusters that each pair of anchors gives; `calm` are the matched harmless states.

    The gradient's own anchor takes part where there are walks; an anchor from which some prompt does not differ is left out.
    """
    ways: tuple[Anchor, ...] = ("matched", "mean", "nearest")
    away = {way: own.states - anchors_of(way, own.states, calm) for way in ways}
    if own.walks:
        away["gradient"] = torch.stack([one.state - one.anchor for one in own.walks])
    return pairwise({way: rows.double().numpy() for way, rows in away.items()}, k, seed)


def specific_agreement(
    own: InputDirections, usual: Float[Tensor, " d_model"], labels: NDArray[numpy.intp], k: int, seed: int = 0
) -> float | None:
    """Return the agreement of clusters with those of what gradients have beyond `usual`, the mean harmless one; None without walks."""
    if not own.walks:
        return None
    rows = torch.stack([one.gradient for one in own.walks]) - usual
    specific = spherical_kmeans(rows.double().numpy(), k, seed=seed)
    return agreement(labels, specific.labels)


def pairwise(
    rows: Mapping[str, Float[NDArray[numpy.float64], "prompts d_model"]], k: int, seed: int
) -> dict[tuple[str, str], float]:
    """Return the agreement between the clusters of each pair of ways that give every prompt a vector."""
    labels = {
        name: spherical_kmeans(one, k, seed=seed).labels
        for name, one in rows.items()
        if bool(numpy.linalg.norm(unit(one), axis=1).all())
    }
    return {pair: agreement(labels[pair[0]], labels[pair[1]]) for pair in combinations(labels, 2)}
