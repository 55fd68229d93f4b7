"""Quantised weights as numbers: how the scales lie over a stored matrix, and what they make of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import pad

from abliterate.errors import CheckpointError, InputError
from abliterate.quantization.formats.base import Format

SLAB = 1 << 19
"""Numbers that are worked on at a time: 2 MiB in float32, a dozen of which stay in a cache."""

EXPONENTS = {getattr(torch, name) for name in ("float8_e8m0fnu",) if hasattr(torch, name)}
"""The dtype of powers of two, which older versions of torch lack."""

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])
PAIRS = torch.stack([E2M1.repeat(16), E2M1.repeat_interleave(16)], dim=-1)
"""The two numbers of each byte of MXFP4, the low half first."""

Part = tuple[slice, slice]
"""Rows and columns of a stored matrix."""


@dataclass(frozen=True)
class Packed:
    """One quantised weight as it is stored; `name` is its parameter's, for errors."""

    name: str
    values: Shaped[Tensor, "..."]
    scales: Shaped[Tensor, "..."]


def dequantize(packed: Packed, format: Format) -> Float[Tensor, "..."]:
    """Return the weight in float32, in the layout of its parameter: MXFP4 experts are `[experts, in, out]`.

    Raises CheckpointError when shapes, dtypes and format do not agree, or for NaN and infinity.
    """
    grid = grid_of(packed, format)
    shape = (grid.experts, grid.width, grid.out) if format.packed else tuple(packed.values.shape)
    weight = torch.empty(shape)
    stored = weight.mT if format.packed else weight.view(grid.experts, grid.out, grid.width)
    for expert in range(grid.experts):
        for part in grid.parts(-2):
            stored[expert][part] = read_part(packed, format, grid, expert, part)
    return weight


@dataclass(frozen=True)
class Grid:
    """How scales lie over the stored matrices `[experts, out, width]`: one for each `rows` x `columns` of them."""

    experts: int
    out: int
    width: int
    rows: int
    columns: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return the shape of the scales."""
        return self.experts, -(-self.out // self.rows), -(-self.width // self.columns)

    def parts(self, along: int) -> Iterator[Part]:
        """Divide a matrix into parts that cut no block in two, nor a vector along the axis; one scale for all is no block."""
        whole, other, block = (self.out, self.width, self.columns) if along == -2 else (self.width, self.out, self.rows)
        unit = block if block < other else 2  # the two numbers of a byte
        step = max(unit, SLAB // whole // unit * unit)
        for start in range(0, other, step):
            piece = slice(start, min(start + step, other))
            yield (slice(0, whole), piece) if along == -2 else (piece, slice(0, whole))

    def blocks(self, part: Part) -> Part:
        """Return where the scales of a part are."""
        rows, columns = part
        return (
            slice(rows.start // self.rows, -(-rows.stop // self.rows)),
            slice(columns.start // self.columns, -(-columns.stop // self.columns)),
        )

    def greatest(self, numbers: Float[Tensor, "r c"]) -> Float[Tensor, "blocks_r blocks_c"]:
        """Return the greatest size in each block of a part."""
        rows, columns = min(self.rows, numbers.shape[0]), min(self.columns, numbers.shape[1])
        whole = pad(numbers.abs(), (0, -numbers.shape[1] % columns, 0, -numbers.shape[0] % rows))
        return whole.reshape(whole.shape[0] // rows, rows, -1, columns).amax((1, 3))

    def spread(self, scales: Float[Tensor, "blocks_r blocks_c"], part: Part) -> Float[Tensor, "r c"]:
        """Repeat the scales of a part for each of its numbers."""
        rows, columns = (piece.stop - piece.start for piece in part)
        tall = scales.repeat_interleave(min(self.rows, rows), 0)[:rows]
        return tall.repeat_interleave(min(self.columns, columns), 1)[:, :columns]


def grid_of(packed: Packed, format: Format) -> Grid:
    """Find how the scales of a weight lie. Raises CheckpointError when they do not fit the format."""
    values, scales = packed.values, packed.scales
    # Powers of two come as a dtype of their own, or as bytes.
    kinds = {torch.uint8} if format.packed else {torch.float32, torch.bfloat16, torch.float16, *EXPONENTS}
    kinds |= {torch.uint8} if format.power_of_two else set()
    expected = torch.uint8 if format.packed else torch.float8_e4m3fn
    shape = (*values.shape[:-2], values.shape[-2] * 32) if format.packed and values.dim() == 4 else tuple(values.shape)
    fits = values.dim() == 4 and values.shape[-1] == 16 if format.packed else values.dim() >= 2
    if fits and min(shape) > 0 and values.dtype == expected and scales.dtype in kinds:
        *experts, out, width = shape
        for strategy in format.strategies:
            rows, columns = {"tensor": (out, width), "channel": (1, width)}.get(strategy, format.block or (out, width))
            grid = Grid(math.prod(experts), out, width, rows, columns)
            single = strategy == "tensor" and not experts and tuple(scales.shape) in ((), (1,))
            if single or tuple(scales.shape) == (*experts, *grid.counts[1:]):
                return grid
    raise CheckpointError(
        f"tensor {packed.name}: expected {format.method} numbers with a scale per {' or '.join(format.strategies)}"
        f"{f' of {format.block[0]} x {format.block[1]}' if format.block else ''}, found {values.dtype} "
        f"{tuple(values.shape)} with scales {scales.dtype} {tuple(scales.shape)}; use the unquantised checkpoint"
    )


def packed_axis(packed: Packed, format: Format, axis: int) -> int:
    """Return the axis of the stored matrix, -2 or -1, for an axis of what `dequantize` returns. Raises InputError."""
    dims = 3 if format.packed else packed.values.dim()
    along = axis if axis < 0 else axis - dims
    if along not in (-1, -2):
        raise InputError(f"tensor {packed.name}: expected one of the last two axes to edit along, found {axis}")
    return -3 - along if format.packed else along


def read_part(packed: Packed, format: Format, grid: Grid, expert: int, part: Part) -> Float[Tensor, "r c"]:
    """Return a part of an expert's stored matrix in float32. Raises CheckpointError for NaN and infinity."""
    stored = packed.values.view(grid.experts, grid.out, -1)[expert]
    if format.packed:
        rows, columns = part
        numbers = PAIRS[stored[rows, columns.start // 2 : columns.stop // 2].int()].flatten(-2)
    else:
        numbers = stored[part].float()
    scales = scale_numbers(packed.scales.view(grid.counts)[expert][grid.blocks(part)])
    return finite_scales(packed, numbers * grid.spread(scales, part))


def scale_numbers(stored: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return scales as numbers; in a byte they are the exponent of a power of two, 255 is NaN."""
    if stored.element_size() > 1:
        return stored.float()
    code = stored.view(torch.uint8).int()
    return torch.ldexp(torch.ones(code.shape), code - 127).masked_fill(code == 255, math.nan)


def finite_scales(packed: Packed, numbers: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return `numbers`. Raises CheckpointError, naming the weight, when they hold NaN or infinity."""
    if not bool(torch.isfinite(numbers).all()):
        raise CheckpointError(
            f"tensor {packed.name}: expected finite numbers, found NaN or infinity; download it again"
        )
    return numbers
