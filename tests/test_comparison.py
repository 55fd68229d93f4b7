"""What counts as edited as planned: the same bits, or what another machine's order of summing makes of them."""

from __future__ import annotations

import pytest
import torch

from abliterate.comparison import same_but_for_rounding
from abliterate.projection import project_out


def edits(dtype: torch.dtype, strength: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """One edit computed in float32, as the package does, and in float64."""
    generator = torch.Generator().manual_seed(0)
    weights = (torch.randn(64, 4096, generator=generator) * 0.02).to(dtype)
    direction = torch.nn.functional.normalize(torch.randn(4096, generator=generator), dim=0)
    wide, row = weights.double(), direction.double()
    other = (wide - strength * (wide @ row)[:, None] * row).to(dtype)
    return project_out(weights, direction, 1.0).reshape(-1), other.reshape(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_another_order_of_the_sums_is_the_same_edit(dtype: torch.dtype) -> None:
    own, other = edits(dtype)
    assert not torch.equal(own, other)
    assert same_but_for_rounding(own, other, float(own.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("strength", [0.0, 0.9, 0.97])
def test_another_strength_is_another_edit(dtype: torch.dtype, strength: float) -> None:
    own, other = edits(dtype, strength)
    assert not same_but_for_rounding(own, other, float(own.abs().max()))


def test_a_single_number_that_is_wrong_or_nan_is_seen() -> None:
    own, _ = edits(torch.bfloat16)
    for wrong in (own[7] * 1.1, torch.tensor(float("nan"))):
        other = own.clone()
        other[7] = wrong
        assert not same_but_for_rounding(own, other, float(own.abs().max()))


def test_types_of_one_byte_must_agree() -> None:
    own = torch.ones(4).to(torch.float8_e4m3fn)
    other = own.clone().view(torch.uint8).add(1).view(torch.float8_e4m3fn)
    assert not same_but_for_rounding(own, other, 1.0)
