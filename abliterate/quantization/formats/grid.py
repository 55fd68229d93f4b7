"""How scales lie over the stored matrices of a quantised weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

SLAB = 1 << 19
"""Numbers that are worked on at a time: 2 MiB in float32, a dozen of which stay in a cache."""

Part = tuple[slice, slice]
"""Rows and columns of a stored matrix."""


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
