"""Quantised weights whose last blocks are cut off, such as 576 rows in blocks of 128: dequantised here for the live model.

transformers takes the size of a block from the number of scales (Fp8Dequantize._dequantize_one): where blocks do not
divide a weight it refuses to load it, or takes them to be smaller than they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.quantization.dequantize import Packed, dequantize


def has_partial_blocks(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint has weights that their blocks do not divide."""
    format = checkpoint.quantization.format
    if format is None or format.packed or format.block is None:
        return False
    shapes = [checkpoint.entry(one.values).shape[-2:] for one in checkpoint.quantization.pairs]
    return any(size % block for shape in shapes for size, block in zip(shape, format.block, strict=True))


def dequantized_weights(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return all weights of a checkpoint by the names that they have unquantised, quantised ones in `dtype`."""
    format, pairs = checkpoint.quantization.format, checkpoint.quantization.pairs
    parts = {name for one in pairs for name in (one.values, one.scales)}
    weights = {name: checkpoint.read(name) for name in checkpoint.tensors if name not in parts}
    for one in pairs:
        assert format
        packed = Packed(one.parameter, checkpoint.read(one.values), checkpoint.read(one.scales))
        weights[one.parameter] = dequantize(packed, format).to(dtype)
    return weights


def without_quantisation(config: Any) -> Any:
    """Return the config of a model as that of its unquantised weights."""
    for part in (config, config.get_text_config(decoder=True)):
        if hasattr(part, "quantization_config"):
            del part.quantization_config
    return config
