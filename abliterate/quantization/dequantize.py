"""Quantised weights as numbers: what scales make of a stored matrix, a part of it at a time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.errors import CheckpointError
from abliterate.quantization.formats.base import Format, Packed
from abliterate.quantization.formats.grid import Grid, Part


def dequantize(packed: Packed, format: Format) -> Float[Tensor, "..."]:
    """Return the weight in float32, in the layout of its parameter: MXFP4 experts are `[experts, in, out]`.

    Raises CheckpointError when shapes, dtypes and format do not agree, or for NaN and infinity.
    """
    grid = format.grid(packed)
    weight = torch.empty(format.shape(packed))
    stored = format.stored(weight, grid)
    for expert in range(grid.experts):
        for part in grid.parts(-2):
            stored[expert][part] = read_part(packed, format, grid, expert, part)
    return weight


def read_part(packed: Packed, format: Format, grid: Grid, expert: int, part: Part) -> Float[Tensor, "r c"]:
    """Return a part of an expert's stored matrix in float32. Raises CheckpointError for NaN and infinity."""
    elements = packed.values.view(grid.experts, grid.out, -1)[expert][format.elements(part)]
    scales = format.scale_numbers(packed.scales.view(grid.counts)[expert][grid.blocks(part)])
    return finite(packed, format.unpack(elements) * grid.spread(scales, part))


def finite(packed: Packed, numbers: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return `numbers`. Raises CheckpointError, naming the weight, when they hold NaN or infinity."""
    # What is not finite stays in the sum; that of finite numbers can only overflow. So most often one sum is enough.
    if not (bool(torch.isfinite(numbers.sum())) or bool(torch.isfinite(numbers).all())):
        raise CheckpointError(
            f"tensor {packed.name}: expected finite numbers, found NaN or infinity; download it again"
        )
    return numbers
