"""Weights quantised by the tools that publish them: transformers, compressed-tensors, and the format's own text."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from abliterate.quantization.dequantize import E2M1, Packed
from abliterate.quantization.formats.base import Format
from abliterate.quantization.formats.registry import read_format

GROUP = {"targets": ["Linear"], "input_activations": None, "output_activations": None}


def compressed_config(strategy: str, **weights: Any) -> dict[str, Any]:
    """The quantization_config of compressed-tensors, format float-quantized."""
    own = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False, "strategy": strategy, **weights}
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {**GROUP, "weights": own}},
        "ignore": ["lm_head"],
    }


CONFIGS: Mapping[str, dict[str, Any]] = {
    "fp8 block": {"quant_method": "fp8", "weight_block_size": [16, 16]},
    "fp8 powers of two": {"quant_method": "fp8", "weight_block_size": [16, 16], "scale_fmt": "ue8m0"},
    "fp8 tensor": {"quant_method": "fp8", "weight_block_size": None},
    "compressed-tensors tensor": compressed_config("tensor"),
    "compressed-tensors channel": compressed_config("channel"),
    "compressed-tensors block": compressed_config("block", block_structure=[16, 16]),
    "mxfp4": {"quant_method": "mxfp4"},
}
"""quantization_config by a short name."""


def format_named(name: str) -> Format:
    found = read_format({"quantization_config": CONFIGS[name]})
    assert found
    return found


def quantised(name: str, weight: Tensor) -> Packed:
    """Quantise `weight`, `[out, in]` or for mxfp4 `[experts, in, out]`, with the format's published quantiser."""
    if name == "mxfp4":
        return Packed("w", *mxfp4(weight))
    if name == "fp8 block" and (weight.shape[0] % 16 or weight.shape[1] % 16):
        return quantise_by_hand(weight, format_named(name))  # transformers' quantiser leaves these as they are
    if name.startswith("fp8"):
        return Packed("w", *fp8(weight, CONFIGS[name]))
    return Packed("w", *compressed(weight, CONFIGS[name]))


def quantise_by_hand(weight: Tensor, format: Format) -> Packed:
    """Blocks of any shape, the last ones cut off: each scale is the greatest number / 448."""
    assert format.block
    rows, columns = format.block
    shape = -(-weight.shape[0] // rows), -(-weight.shape[1] // columns)
    values, scales = torch.empty(weight.shape, dtype=torch.float8_e4m3fn), torch.empty(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            here = slice(i * rows, (i + 1) * rows), slice(j * columns, (j + 1) * columns)
            scales[i, j] = (weight[here].abs().amax() / 448).clamp(min=1e-30)
            values[here] = (weight[here] / scales[i, j]).to(torch.float8_e4m3fn)
    return Packed("w", values, scales)


def fp8(weight: Tensor, config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """transformers' own quantiser."""
    own = SimpleNamespace(**{"scale_fmt": "float", **config})
    made = Fp8Quantize(SimpleNamespace(quantization_config=own)).convert({"w.weight": weight})
    return made["w.weight"], made["w.weight_scale_inv"]


def compressed(weight: Tensor, config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """compressed-tensors' own quantiser, with the scales that its observers compute."""
    from compressed_tensors.quantization.lifecycle.forward import quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    args = compressed_args(config)
    if args.strategy == "tensor":
        low, high = weight.amin().reshape(1), weight.amax().reshape(1)
    elif args.strategy == "channel":
        low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    else:
        rows, columns = args.block_structure
        blocks = weight.reshape(weight.shape[0] // rows, rows, -1, columns)
        low, high = blocks.amin((1, 3)), blocks.amax((1, 3))
    scale, zero_point = calculate_qparams(low, high, args)
    return quantize(weight, scale, zero_point, args, dtype=torch.float8_e4m3fn), scale


def mxfp4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The OCP specification by its words: no number of a block is above 6, the scale is a power of two (transformers'
    own quantiser is a kernel for a GPU). Checked against transformers' own dequantiser below."""
    groups = weight.mT.unflatten(-1, (-1, 32)).contiguous()  # [experts, out, groups, 32]
    exponent = torch.ceil(torch.log2(groups.abs().amax(-1) / 6).clamp(min=-126))
    scaled = groups * torch.exp2(-exponent)[..., None]
    code = (scaled[..., None] - E2M1).abs().argmin(-1).to(torch.uint8)
    return code[..., ::2] | code[..., 1::2] << 4, (exponent + 127).to(torch.uint8)


def dequantised(name: str, packed: Packed) -> Tensor:
    """The weight in float32 as the published dequantiser reads it."""
    if name == "mxfp4":
        read: Tensor = convert_moe_packed_tensors(packed.values, packed.scales, dtype=torch.float32)
        return read
    if name.startswith("fp8"):
        read = Fp8Dequantize(None)._dequantize_one(packed.values, packed.scales, torch.float32)
        return read
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    read = dequantize(packed.values, packed.scales, args=compressed_args(CONFIGS[name]), dtype=torch.float32)
    return read


def compressed_args(config: Mapping[str, Any]) -> Any:
    from compressed_tensors.quantization import QuantizationArgs

    return QuantizationArgs.model_validate(config["config_groups"]["group_0"]["weights"])
