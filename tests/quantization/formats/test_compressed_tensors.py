"""What a quantization_config of compressed-tensors may say."""

from __future__ import annotations

from typing import Any

import pytest

from abliterate.quantization.formats.base import UnreadFormatError
from abliterate.quantization.formats.compressed_tensors import CompressedTensors


def config(*weights: dict[str, Any], format: str = "float-quantized") -> dict[str, Any]:
    float8 = {"type": "float", "num_bits": 8, "symmetric": True}
    groups = {f"group_{number}": {"weights": {**float8, **one}} for number, one in enumerate(weights)}
    return {"format": format, "config_groups": groups}


def test_the_strategy_of_every_group_counts() -> None:
    read = CompressedTensors.read(config({"strategy": "tensor"}, {"strategy": "channel"}))
    assert read == CompressedTensors(("tensor", "channel"), None)
    assert CompressedTensors.read(config({"group_size": -1}, format="naive-quantized")).strategies == ("channel",)


@pytest.mark.parametrize("structure", ["128x64", [128, 64]])
def test_blocks_are_read_in_both_spellings(structure: object) -> None:
    read = CompressedTensors.read(config({"strategy": "block", "block_structure": structure}))
    assert read == CompressedTensors(("block",), (128, 64))


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (config({}, format="pack-quantized"), "pack-quantized"),
        ({"format": "float-quantized"}, "float-quantized"),
        (config({"num_bits": 4}), "4 bits"),
        (config({"strategy": "group"}), "by group"),
        (config({"symmetric": False}), "8 bits"),
        (config(), "0 sizes of block"),
    ],
)
def test_what_is_not_read_is_named(listed: dict[str, Any], said: str) -> None:
    with pytest.raises(UnreadFormatError, match=said):
        CompressedTensors.read(listed)
