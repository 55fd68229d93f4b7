"""What counts as edited as planned: the same bits, or what another machine's order of summing makes of them."""

from __future__ import annotations

import pytest
import torch

from abliterate.projection import project_out
from abliterate.proofs.tensors import NOISE, same_but_for_rounding


def edits(dtype: torch.dtype, strength: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """One edit computed in float32, as the package does, and in float64."""
    generator = torch.Generator().manual_seed(0)
    weights = (torch.randn(64, 4096, generator=generator) * 0.02).to(dtype)
    direction = torch.nn.functional.normalize(torch.randn(4096, generator=generator), dim=0)
    wide, row = weights.double(), direction.double()
    other = (wide - strength * (wide @ row)[:, None] * row).to(dtype)
    return project_out(weights, direction, 1.0).reshape(-1), other.reshape(-1)


def moved(numbers: torch.Tensor, places: torch.Tensor, steps: int) -> torch.Tensor:
    """The same numbers, but those at `places` so many units in the last place further from zero."""
    bits = numbers.clone().view({2: torch.int16, 4: torch.int32}[numbers.itemsize])
    bits[places] += steps
    return bits.view(numbers.dtype)


def middling(numbers: torch.Tensor) -> torch.Tensor:
    """Where the numbers lie in the lower half of [2^-5, 2^-4): a step there is more than half of what may differ."""
    return ((numbers.abs() > 0.04) & (numbers.abs() < 0.045)).nonzero()[:, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_another_order_of_the_sums_is_the_same_edit(dtype: torch.dtype) -> None:
    """Whether any number is rounded another way is the machine's: those that certainly are come below."""
    own, other = edits(dtype)
    assert same_but_for_rounding(own, other, float(own.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, -1])
def test_a_few_numbers_one_step_away_are_the_same_edit(dtype: torch.dtype, steps: int) -> None:
    own, _ = edits(dtype)
    largest, places = float(own.abs().max()), middling(own)
    few = int(10 * NOISE / torch.finfo(dtype).eps * len(own))
    assert 100 < few < len(places)
    for count in (1, few):
        other = moved(own, places[:count], steps)
        assert int((own != other).sum()) == count
        assert same_but_for_rounding(own, other, largest)
    assert not same_but_for_rounding(own, moved(own, places[: few + 1], steps), largest)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("steps", [2, -2, 3, -3])
def test_a_single_number_two_steps_away_is_another_edit(dtype: torch.dtype, steps: int) -> None:
    own, _ = edits(dtype)
    assert not same_but_for_rounding(own, moved(own, middling(own)[:1], steps), float(own.abs().max()))


@pytest.mark.parametrize("steps", [1, -1])
def test_in_float32_any_number_may_differ_by_what_the_sums_do(steps: int) -> None:
    own, _ = edits(torch.float32)
    largest = float(own.abs().max())
    everywhere = moved(own, torch.arange(len(own)), steps)
    assert bool((own != everywhere).all())
    assert same_but_for_rounding(own, everywhere, largest)
    for shift, same in ((0.5, True), (2.0, False)):
        other = own.clone()
        other[middling(own)[0]] += steps * shift * NOISE * largest
        assert same_but_for_rounding(own, other, largest) is same


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
