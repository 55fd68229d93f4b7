"""Quantised weights that transformers does not dequantise, which is done here for the live model.

Such are those whose last blocks are cut off, as 576 rows in blocks of 128 are: transformers takes the size of a block
from the number of scales (Fp8Dequantize._dequantize_one), and where blocks do not divide a weight it refuses to load
it, or takes them to be smaller than they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.quantization.dequantize import dequantize
from abliterate.quantization.formats.base import Packed


def dequantized_here(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint has quantised weights that transformers does not dequantise."""
    format, pairs = checkpoint.quantization.format, checkpoint.quantization.pairs
    if format is None:
        return False
    return not all(format.loads_in_transformers(checkpoint.entry(one.values).shape) for one in pairs)


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
