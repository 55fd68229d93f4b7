"""The layer that a study works at: chosen, or a number that is checked. Imports nothing that takes time."""

from __future__ import annotations

from typing import Literal

from abliterate.errors import InputError

LAYER = 0.6
"""Of the depth: where vectors are made, and segments embedded."""


def read_layer(text: str) -> str | int:
    """Read auto, or the number of a layer."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError("give auto, or the number of a layer") from None


def layer_of(layer: Literal["auto"] | int, depth: int) -> int:
    """Return the layer that vectors are made and added at. Raises InputError for one to which nothing can be added."""
    if layer == "auto":
        return max(1, round(LAYER * depth))
    if not 1 <= layer < depth:
        raise InputError(f"--layer {layer} is out of range; this model has layers 1 to {depth - 1}")
    return layer
