"""The direction of over-refusal: between look-alikes that are refused and harmless prompts that are answered, turned away
from the direction of true refusal.

Source: Wang et al. 2024, "Surgical, Cheap, and Flexible: Mitigating False Refusal in Language Models via Single Vector
Ablation", arXiv 2410.03415.
"""

from __future__ import annotations

from dataclasses import replace

from abliterate.directions.directions import Directions
from abliterate.projection import ZERO_LENGTH


def turned_away(over_refusal: Directions, refusal: Directions, weight: float = 1.0) -> Directions:
    """Return `w - weight * r (r . w)` at every position and layer, `w` being over-refusal and `r` refusal of length 1.

    `weight` 1 makes them orthogonal, 0 leaves `w` as it is. Both are `[positions, layers, d_model]`, of the same positions.

    Examples:
        >>> turned = turned_away(directions, directions, weight=0.5)
        >>> torch.allclose(turned.difference(4), directions.difference(4) / 2, atol=1e-6)
        True
    """
    w, r = over_refusal.differences, refusal.differences
    unit = r / r.norm(dim=-1, keepdim=True).clamp_min(
        ZERO_LENGTH
    )  # at resid[0] template tokens do not differ: r is zero
    return replace(over_refusal, differences=w - weight * (w * unit).sum(-1, keepdim=True) * unit)
