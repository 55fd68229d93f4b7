"""Stored numbers times their scales, whole and a part at a time; what is no number is named."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import CheckpointError
from abliterate.quantization.dequantize import dequantize, read_part
from abliterate.quantization.formats.base import Packed
from fixtures.int8_format import Int8, int8_rows


def packed() -> Packed:
    values, scales = int8_rows(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)))
    return Packed("layer.weight", values, scales)


def test_a_weight_is_its_numbers_times_their_scales() -> None:
    weight = packed()
    assert torch.equal(dequantize(weight, Int8()), weight.values.float() * weight.scales)


def test_a_part_is_that_part_of_the_whole() -> None:
    weight, format = packed(), Int8()
    part = (slice(2, 5), slice(0, 8))
    assert torch.equal(read_part(weight, format, format.grid(weight), 0, part), dequantize(weight, format)[2:5])


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_scales_that_are_no_numbers_are_named(broken: float) -> None:
    weight = packed()
    weight.scales[3] = broken
    with pytest.raises(CheckpointError, match=r"tensor layer.weight: expected finite numbers, found NaN or infinity"):
        dequantize(weight, Int8())
