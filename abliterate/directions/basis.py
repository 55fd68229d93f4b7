"""Several directions at one place: the first, and those along which prompts' own directions differ from it most."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.errors import InputError
from abliterate.projection import normalize, orthonormal_basis, remove_component

FLAT = 1e-6
"""A principal component below this share of the largest is rounding."""


def spread_basis(
    first: Float[Tensor, " d_model"],
    refused: Float[Tensor, "prompts d_model"],
    harmless_mean: Float[Tensor, " d_model"],
    rank: int,
) -> Float[Tensor, "k d_model"]:
    """Return `rank` orthonormal rows in float32: `first`, and the principal components of each prompt's own direction.

    That is `refused - harmless_mean`, of length 1 and without its component along `first`, centred over the prompts. Computed in
    float64. Raises InputError where prompts differ in fewer directions, and for states that are not finite.
    """
    own = normalize(refused.double() - harmless_mean.double())
    left = remove_component(own, first.double().expand_as(own))
    _, sizes, components = torch.linalg.svd(left - left.mean(dim=0), full_matrices=False)
    found = int((sizes > FLAT * sizes[:1]).sum())
    if found < rank - 1:
        raise InputError(
            f"the {len(refused)} refused prompts differ in {found} directions beside the first; give more prompts, or a lower "
            "--edit-rank"
        )
    return orthonormal_basis(torch.cat([first.double()[None], components[: rank - 1]]))
