"""Where clusters lie: against the difference in means of every layer, the mean harmless gradient, and real states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.evaluation.statistics import Mean, mean_of
from abliterate.studies.clusters.clustering import Clustering
from abliterate.studies.clusters.distance import quantiles_among
from abliterate.studies.clusters.inputs import InputDirections


def mean_gradient(calm: InputDirections) -> Float[Tensor, " d_model"] | None:
    """Return the mean gradient of harmless prompts; None without walks."""
    return torch.stack([one.gradient for one in calm.walks]).mean(0) if calm.walks else None


def mean_cosine(vectors: Float[Tensor, "prompts d_model"]) -> float:
    """Return the mean cosine between two prompts' directions."""
    unit = torch.nn.functional.normalize(vectors.double(), dim=-1)
    count = len(unit)
    return float((unit.sum(0).square().sum() - count) / (count * (count - 1))) if count > 1 else float("nan")


def cosines_of(
    clustering: Clustering,
    resid: Float[Tensor, "prompts layers d_model"],
    train: Sequence[int],
    middle: int,
    usual: Float[Tensor, " d_model"] | None,
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Return the cosines of each centroid with the difference in means of every layer, and with the mean harmless gradient."""
    calm = [middle + place for place in train]
    means = resid[list(train)].double().mean(0) - resid[calm].double().mean(0)
    layers = torch.nn.functional.normalize(means, dim=-1)
    found = {"difference in means": clustering.centroids.double() @ layers.T}
    if usual is not None:
        found["harmless gradient"] = (
            clustering.centroids.double() @ torch.nn.functional.normalize(usual.double()[None], dim=-1).T
        )
    return {name: tuple(map(tuple, table.tolist())) for name, table in found.items()}


def reach_of(own: InputDirections, real: Float[Tensor, "prompts d_model"]) -> Mean | None:
    """Return how far out the ends of walks are among real states, as quantiles; None without walks."""
    if not own.walks:
        return None
    ends = torch.stack([end for one in own.walks for end in (one.point, one.anchor)])
    return mean_of(quantiles_among(ends, real).tolist())


def plane_of(found: Clustering) -> dict[str, Any]:
    """Return the clustered prompts' directions in their two principal directions, and the share of the spread that those have."""
    rows = found.own.vectors.double()
    centred = rows - rows.mean(0)
    _, lengths, axes = torch.linalg.svd(centred, full_matrices=False)
    share = lengths.square() / lengths.square().sum().clamp(min=1e-30)
    return {
        "points": (centred @ axes[:2].T).tolist(),
        "centroids": ((found.centroids.double() - rows.mean(0)) @ axes[:2].T).tolist(),
        "explained": share[:2].tolist(),
    }
