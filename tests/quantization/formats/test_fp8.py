"""What a quantization_config of fp8 may say."""

from __future__ import annotations

import pytest

from abliterate.errors import CheckpointError
from abliterate.quantization.formats.base import UnreadFormatError
from abliterate.quantization.formats.fp8 import Fp8


def test_no_entry_means_blocks_of_128_and_null_one_scale_for_all() -> None:
    assert Fp8.read({}) == Fp8(("block",), (128, 128), False)
    assert Fp8.read({"weight_block_size": None}) == Fp8(("tensor",), None, False)
    assert Fp8.read({"weight_block_size": [64, 32], "scale_fmt": "ue8m0"}) == Fp8(("block",), (64, 32), True)


@pytest.mark.parametrize("listed", [{"fmt": "e5m2"}, {"expert_dtype": "fp4"}])
def test_other_numbers_are_not_read(listed: dict[str, str]) -> None:
    with pytest.raises(UnreadFormatError, match=next(iter(listed.values()))):
        Fp8.read(listed)


@pytest.mark.parametrize("block", [[0, 128], [128], "128", [128, 128, 1]])
def test_blocks_that_cannot_be(block: object) -> None:
    with pytest.raises((CheckpointError, UnreadFormatError)):
        Fp8.read({"weight_block_size": block})
