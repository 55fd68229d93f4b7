"""How a direction is made from activations: one function a method, and a table of them.

The table can be read without torch, which the command line does for its words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abliterate.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from abliterate.activations.capture import Activations
    from abliterate.directions.directions import Directions


@dataclass(frozen=True)
class Method:
    """A way to make a direction.

    `make` is given the activations of harmful and of harmless prompts, at the same positions, and returns a vector
    `[positions, layers, d_model]` for each place; its length is what activation addition adds. `words` say what
    it does in --help, in a few words behind its name, `source` where it comes from.
    """

    make: Callable[[Activations, Activations], Tensor]
    words: str
    source: str


def plain_difference(harmful: Activations, harmless: Activations) -> Tensor:
    """Return `mean(harmful) - mean(harmless)`."""
    return harmful.mean() - harmless.mean()


def projected_difference(harmful: Activations, harmless: Activations) -> Tensor:
    """Return the difference in means without its component along the harmless mean at the same place."""
    from abliterate.projection import remove_component

    usual = harmless.mean()
    return remove_component(harmful.mean() - usual, usual)


METHODS: dict[str, Method] = {
    "projected": Method(projected_difference, "harmless mean removed", "docs/method.md"),
    "mean-difference": Method(plain_difference, "the plain one", "Arditi et al. 2024, arXiv 2406.11717"),
}
"""The methods by the words of --direction, the default first."""


def make_directions(
    harmful: Activations, harmless: Activations, method: str, metadata: Mapping[str, Any] | None = None
) -> Directions:
    """Return what a method of `METHODS` makes of the activations, at every position and layer.

    Raises InputError for an unknown method and for captures at different positions.
    """
    from abliterate.directions.directions import Directions

    if method not in METHODS:
        raise InputError(f"--direction {method}: unknown; choose among {', '.join(METHODS)}")
    if harmful.positions != harmless.positions:
        raise InputError(f"the two captures have different positions: {harmful.positions} and {harmless.positions}")
    return Directions(METHODS[method].make(harmful, harmless), harmful.positions, method, dict(metadata or {}))


def difference_in_means(
    harmful: Activations, harmless: Activations, metadata: Mapping[str, Any] | None = None
) -> Directions:
    """Return `mean(harmful) - mean(harmless)` at every position and layer (Arditi et al. 2024, arXiv 2406.11717).

    The command's default is `projected_difference_in_means`. `metadata` is kept with the directions, and saved. Raises
    InputError for captures at different positions.

    Examples:
        >>> harmful_side, harmless_side = (capture(model, tokenizer, side) for side in (harmful, harmless))
        >>> found = difference_in_means(harmful_side, harmless_side)
        >>> torch.allclose(found.difference(4), (harmful_side.mean() - harmless_side.mean())[-1, 4].float())
        True
    """
    return make_directions(harmful, harmless, "mean-difference", metadata)


def projected_difference_in_means(
    harmful: Activations, harmless: Activations, metadata: Mapping[str, Any] | None = None
) -> Directions:
    """Return the difference in means without its component along the harmless mean at the same place.

    What harmless prompts have in common so stays when the direction is removed; the command finds directions in this
    way unless it is told `--direction mean-difference`. Raises InputError as `difference_in_means`.

    Examples:
        >>> harmful_side, harmless_side = (capture(model, tokenizer, side) for side in (harmful, harmless))
        >>> found = projected_difference_in_means(harmful_side, harmless_side)
        >>> usual = harmless_side.mean()[-1, 4].float()
        >>> abs(float(found[4] @ usual / usual.norm())) < 1e-5
        True
    """
    return make_directions(harmful, harmless, "projected", metadata)
