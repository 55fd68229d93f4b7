"""The directions that a search of several begins with."""

from __future__ import annotations

import pytest
import torch

from abliterate.directions.basis import spread_basis
from abliterate.errors import InputError
from abliterate.projection import normalize

D_MODEL = 24


def planted(prompts: int, own: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A first direction, states along it and along planted others, the harmless mean, and those others."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(D_MODEL, own + 1, generator=generator))[0].T
    amounts = torch.randn(prompts, own, generator=generator) * torch.logspace(0, -1, own)
    mean = torch.randn(D_MODEL, generator=generator)
    return axes[0], mean + 4 * axes[0] + amounts @ axes[1:], mean, axes[1:]


def test_the_first_is_kept_and_the_others_are_where_prompts_differ_most() -> None:
    first, refused, mean, others = planted(200, 3)
    basis = spread_basis(first, refused, mean, 3)
    assert torch.allclose(basis @ basis.T, torch.eye(3), atol=1e-6)
    assert torch.allclose(basis[0], first, atol=1e-6)
    assert abs(float(basis[1] @ others[0])) > 0.98
    assert abs(float(basis[2] @ others[1])) > 0.9


def test_lengths_of_states_and_of_the_first_do_not_count() -> None:
    first, refused, mean, _ = planted(50, 3)
    longer = mean + 7 * (refused - mean)
    assert torch.allclose(spread_basis(3 * first, longer, mean, 3), spread_basis(first, refused, mean, 3), atol=1e-5)


def test_prompts_that_differ_in_too_few_directions_are_refused() -> None:
    first, refused, mean, _ = planted(30, 2)
    assert len(spread_basis(first, refused, mean, 3)) == 3
    with pytest.raises(InputError, match="30 refused prompts differ in 2 directions beside the first"):
        spread_basis(first, refused, mean, 4)
    with pytest.raises(InputError, match="NaN"):
        spread_basis(first, normalize(refused) * torch.nan, mean, 2)
