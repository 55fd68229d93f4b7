"""The layer that a study works at: chosen, or a number that is checked."""

from __future__ import annotations

from typing import Literal

from abliterate.architectures.layers import check_layer

LAYER = 0.6
"""Of the depth: where vectors are made, and segments embedded."""


def layer_of(layer: Literal["auto"] | int, depth: int) -> int:
    """Return the layer that vectors are made and added at. Raises InputError for one to which nothing can be added."""
    if layer == "auto":
        return max(1, round(LAYER * depth))
    return check_layer(layer, depth)
