"""How a direction is made from activations: one function a method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.activations.capture import Activations
from abliterate.directions.directions import METHODS, Directions, Method
from abliterate.errors import InputError
from abliterate.projection import remove_component


def difference_in_means(
    harmful: Activations, harmless: Activations, method: Method = "projected", metadata: Mapping[str, Any] | None = None
) -> Directions:
    """Return `mean(harmful) - mean(harmless)` at every position and layer.

    `projected` (the default) also removes the component along the harmless mean at the same place, so that
    what harmless prompts have in common stays; `mean-difference` is the plain one.
    """
    if method not in METHODS:
        raise InputError(f"--direction {method}: unknown; choose among {', '.join(METHODS)}")
    if harmful.positions != harmless.positions:
        raise InputError(f"the two captures have different positions: {harmful.positions} and {harmless.positions}")
    usual = harmless.mean()
    difference = harmful.mean() - usual
    if method == "projected":
        difference = remove_component(difference, usual)
    return Directions(difference, harmful.positions, method, dict(metadata or {}))
