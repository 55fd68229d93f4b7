"""MXFP4: the grid of sixteen numbers, two in a byte, blocks that need their scales."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import CheckpointError
from abliterate.quantization.formats.mxfp4 import E2M1, GROUP, Mxfp4


def test_numbers_are_rounded_to_the_nearest_of_the_grid_ties_to_even() -> None:
    numbers = torch.linspace(-8, 8, 1001)
    distance = (numbers[:, None] - E2M1).abs()
    rounded = Mxfp4().nearest(numbers)
    assert set(rounded.tolist()) <= set(E2M1.tolist())
    assert torch.allclose((rounded - numbers).abs(), distance.min(1).values)
    ties = torch.tensor([0.25, 0.75, 1.25, 2.5, 3.5, 5.0])
    assert Mxfp4().nearest(ties).tolist() == [0.0, 1.0, 1.0, 2.0, 4.0, 4.0]


def test_the_low_half_of_a_byte_is_the_first_number() -> None:
    format = Mxfp4()
    assert format.unpack(torch.tensor([[0x21]], dtype=torch.uint8)).tolist() == [[0.5, 1.0]]
    assert format.pack(torch.tensor([[0.5, -1.0]])).tolist() == [[0xA1]]


def test_blocks_without_scales_are_an_error_and_other_tensors_are_none() -> None:
    format = Mxfp4()
    found = format.companions("experts.down_proj_blocks", {"experts.down_proj_blocks", "experts.down_proj_scales"})
    assert found is not None
    assert (found.parameter, found.scales) == ("experts.down_proj", "experts.down_proj_scales")
    assert format.companions("experts.down_proj_bias", {"experts.down_proj_bias"}) is None
    with pytest.raises(CheckpointError, match=r"expected its scales in 'experts.down_proj_scales'"):
        format.companions("experts.down_proj_blocks", {"experts.down_proj_blocks"})


def test_the_shape_that_blocks_stand_for() -> None:
    assert Mxfp4().matrices((4, 8, 3, GROUP // 2)) == (4, 8, 3 * GROUP)
    assert Mxfp4().matrices((4, 8, 3, GROUP)) is None
    assert Mxfp4().matrices((8, 3, GROUP // 2)) is None
