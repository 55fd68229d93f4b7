"""What config.json says of quantised weights: three formats are read, every other is refused with the way out."""

from __future__ import annotations

from typing import Any

import pytest

from abliterate.errors import CheckpointError
from abliterate.quantization.formats.base import Companions, Format
from abliterate.quantization.formats.compressed_tensors import CompressedTensors
from abliterate.quantization.formats.fp8 import Fp8
from abliterate.quantization.formats.mxfp4 import Mxfp4
from abliterate.quantization.formats.registry import read_format, with_unquantised
from fixtures.quantizers import compressed_config


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ({"quant_method": "fp8", "weight_block_size": [64, 128]}, Fp8(("block",), (64, 128))),
        ({"quant_method": "fp8", "fmt": "e4m3"}, Fp8(("block",), (128, 128))),
        ({"quant_method": "fp8", "weight_block_size": None}, Fp8(("tensor",))),
        ({"quant_method": "fp8", "scale_fmt": "ue8m0"}, Fp8(("block",), (128, 128), True)),
        ({"quant_method": "mxfp4"}, Mxfp4(("block",), (1, 32), True)),
        (compressed_config("channel"), CompressedTensors(("channel",))),
        (compressed_config("tensor"), CompressedTensors(("tensor",))),
        (compressed_config("block", block_structure=[4, 8]), CompressedTensors(("block",), (4, 8))),
        (compressed_config("block", block_structure="4x8"), CompressedTensors(("block",), (4, 8))),
    ],
)
@pytest.mark.parametrize("key", [None, "text_config"])
def test_formats_that_are_read(listed: dict[str, Any], expected: Format, key: str | None) -> None:
    config = {"quantization_config": listed}
    assert read_format({key: config} if key else config) == expected


def test_no_quantisation_is_none() -> None:
    assert read_format({}) is None
    assert read_format({"quantization_config": None, "text_config": {}}) is None


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, which is not read; edit the unquan"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "gptq, which is not read; use the unquantised checkpoint"),
        ({"quant_method": "awq"}, "awq, which is not read"),
        ({"quant_method": "fp8", "expert_dtype": "fp4"}, "fp8 with expert_dtype 'fp4'"),
        ({"quant_method": "fp8", "fmt": "e5m2"}, "fp8 with fmt 'e5m2'"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, r"block size: expected two whole numbers, found \[0"),
        (
            {"quant_method": "fp8", "weight_block_size": [float("inf"), 128]},
            "block size: expected two whole numbers, found",
        ),
        ({"bits": 4}, "a method without a name"),
        ("fp8", "expected an object, found fp8"),
        ({**compressed_config("tensor"), "format": "pack-quantized"}, "format 'pack-quantized'"),
        (compressed_config("group", group_size=128), "8 bits, type 'float', by group"),
        (compressed_config("tensor", num_bits=4), "4 bits"),
        (compressed_config("tensor", type="int"), "type 'int'"),
        ({**compressed_config("tensor"), "config_groups": {}}, "0 sizes of block"),
    ],
)
def test_other_methods_are_refused_in_one_line_with_the_way_out(listed: Any, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        read_format({"quantization_config": listed})
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


FP8 = Fp8(("block",), (128, 128))
MXFP4 = Mxfp4(("block",), (1, 32), True)
COMPRESSED = CompressedTensors(("tensor",))


@pytest.mark.parametrize(
    ("format", "name", "scales", "parameter"),
    [
        (FP8, "a.weight", "a.weight_scale_inv", "a.weight"),
        (FP8, "a.weight", "a.scale", "a.weight"),
        (FP8, "a.weight", "a.qscale_weight", "a.weight"),
        (FP8, "a.experts.down_proj", "a.experts.down_proj_scale_inv", "a.experts.down_proj"),
        (COMPRESSED, "a.weight", "a.weight_scale", "a.weight"),
        (MXFP4, "a.down_proj_blocks", "a.down_proj_scales", "a.down_proj"),
    ],
)
def test_a_weight_is_its_numbers_and_its_scales(format: Format, name: str, scales: str, parameter: str) -> None:
    on_disk = {name, scales}
    assert format.companions(name, on_disk) == Companions(parameter, name, scales)
    assert format.companions(scales, on_disk) is None


def test_an_unquantised_weight_has_no_companions() -> None:
    for format in (FP8, COMPRESSED, MXFP4):
        assert format.companions("a.weight", {"a.weight", "b.weight"}) is None


def test_blocks_without_scales_are_refused() -> None:
    with pytest.raises(CheckpointError, match="expected its scales in 'a_scales', which is missing"):
        MXFP4.companions("a_blocks", {"a_blocks"})


@pytest.mark.parametrize(
    ("listed", "key", "expected"),
    [
        ({"quant_method": "fp8"}, "modules_to_not_convert", ["lm_head", "a", "b"]),
        ({"quant_method": "fp8", "modules_to_not_convert": ["a"]}, "modules_to_not_convert", ["a", "b"]),
        ({"quant_method": "fp8", "ignored_layers": ["c"]}, "ignored_layers", ["c", "a", "b"]),
        ({"quant_method": "mxfp4"}, "modules_to_not_convert", ["lm_head", "a", "b"]),
        (compressed_config("tensor"), "ignore", ["lm_head", "a", "b"]),
    ],
)
def test_modules_are_listed_as_not_quantised(listed: dict[str, Any], key: str, expected: list[str]) -> None:
    before = {"quantization_config": listed, "other": 1}
    after = with_unquantised(before, ["a", "b"], ["lm_head"])
    assert after["quantization_config"] == {**listed, key: expected}
    assert after["other"] == 1
    assert before["quantization_config"] is listed
