"""How likely a state is among those of real prompts: the Mahalanobis distance of gradient points, as a quantile.

50 principal components of real states with their variances, shrunk towards their mean; what lies outside of them counts with
the mean variance that real states have there. A point that no prompt ever reaches explains little.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

COMPONENTS = 50
SHRINK = 0.1


def quantiles_among(
    points: Float[Tensor, "points d_model"], states: Float[Tensor, "states d_model"]
) -> Float[Tensor, " points"]:
    """Return the share of real states that lie closer to their mean than each point: 1 is further out than all of them."""
    real, given = states.double(), points.double()
    mean = real.mean(0)
    _, lengths, axes = torch.linalg.svd(real - mean, full_matrices=False)
    count = min(COMPONENTS, max(1, (len(real) - 1) // 2))
    variances = lengths.square() / (len(real) - 1)
    inside = (1 - SHRINK) * variances[:count] + SHRINK * variances[:count].mean()
    outside = variances[count:].sum() / max(1, min(len(real) - 1, real.shape[1]) - count)

    def distance(rows: Tensor) -> Tensor:
        away = rows - mean
        along = away @ axes[:count].T
        left = (away.square().sum(1) - along.square().sum(1)).clamp(min=0)
        found: Tensor = (along.square() / inside.clamp(min=1e-12)).sum(1) + left / outside.clamp(min=1e-12)
        return found

    own, other = distance(real), distance(given)
    return (own[None] < other[:, None]).double().mean(1)
