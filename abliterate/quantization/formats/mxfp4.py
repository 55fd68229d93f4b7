"""MXFP4 of gpt-oss: two e2m1 numbers in a byte, one power of two for 32 of them along the input.

OCP Microscaling Formats 1.0; transformers, integrations/mxfp4.py. Experts are stacked, and stored `[experts, out, in]`
where their parameter is `[experts, in, out]`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from abliterate.errors import CheckpointError
from abliterate.quantization.formats.base import Companions, Format, Packed, last_axis
from abliterate.quantization.formats.grid import Grid

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])
"""The numbers of the grid by their four bits."""

PAIRS = torch.stack([E2M1.repeat(16), E2M1.repeat_interleave(16)], dim=-1)
"""The two numbers of each byte, the low half first."""

GROUP = 32
"""Numbers that share a scale."""


@dataclass(frozen=True)
class Mxfp4(Format):
    """Stacked experts in blocks `[experts, out, groups, 16 bytes]` with scales `[experts, out, groups]`."""

    strategies: tuple[str, ...] = ("block",)
    block: tuple[int, int] | None = (1, GROUP)
    power_of_two: bool = True

    method: ClassVar[str] = "mxfp4"
    words: ClassVar[str] = "mxfp4"
    scale_names: ClassVar[tuple[str, ...]] = ("{}_scales",)
    dtype: ClassVar[torch.dtype] = torch.uint8
    per_element: ClassVar[int] = 2
    top: ClassVar[float] = 6.0
    reach: ClassVar[float] = 7.0

    @classmethod
    def read(cls, listed: Mapping[str, Any]) -> Format:
        """Return the format; there is one kind."""
        return cls()

    def nearest(self, numbers: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Round to the nearest number of the grid, ties to even; beyond the top to the top."""
        size = numbers.abs()
        fine, middle, coarse = (size * 2).round_() / 2, size.round(), (size / 2).round_() * 2
        return torch.where(size < 2, fine, torch.where(size < 4, middle, coarse)).clamp_(max=6).copysign_(numbers)

    def gap(self, numbers: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Return the distance to the next number: one bit of mantissa, the least 0.5."""
        return (numbers.abs() / 2).clamp(min=0.5)

    def unpack(self, elements: Shaped[Tensor, "r elements"]) -> Float[Tensor, "r c"]:
        """Return the numbers of the grid that are stored."""
        return PAIRS[elements.int()].flatten(-2)

    def pack(self, numbers: Float[Tensor, "r c"]) -> Shaped[Tensor, "r elements"]:
        """Return how numbers of the grid are stored."""
        size = numbers.abs()
        code = torch.where(size <= 2, size * 2, (size + 2).clamp(max=7)).to(torch.uint8)
        code |= torch.signbit(numbers).to(torch.uint8) << 3
        return code[:, ::2] | code[:, 1::2] << 4

    def parameter_of(self, values: str) -> str | None:
        """Return the name without `_blocks`."""
        return values.removesuffix("_blocks") if values.endswith("_blocks") else None

    def companions(self, name: str, on_disk: Container[str]) -> Companions | None:
        """Return the quantised weight whose numbers are in the tensor `name`; blocks without scales are an error."""
        weight = super().companions(name, on_disk)
        if weight is None and self.parameter_of(name) is not None:
            raise CheckpointError(
                f"tensor {name!r}: expected its scales in '{self.parameter_of(name)}_scales', which is missing; "
                "download it again"
            )
        return weight

    @property
    def scale_dtypes(self) -> set[torch.dtype]:
        """Return what scales may be stored in."""
        return {torch.uint8}

    def matrices(self, values: Sequence[int]) -> tuple[int, ...] | None:
        """Return the shape `[experts, out, width]` of what blocks stand for."""
        if len(values) != 4 or values[-1] * self.per_element != GROUP:
            return None
        return (*values[:-2], values[-2] * GROUP)

    def shape(self, packed: Packed) -> tuple[int, ...]:
        """Return the shape of the parameter, `[experts, width, out]`."""
        grid = self.grid(packed)
        return grid.experts, grid.width, grid.out

    def stored(self, weight: Float[Tensor, "experts width out"], grid: Grid) -> Float[Tensor, "experts out width"]:
        """Return a view of a parameter laid out as its stored matrices are."""
        return weight.mT

    def stored_axis(self, packed: Packed, axis: int) -> int:
        """Return the axis of the stored matrix for an axis of the parameter, which lies the other way round."""
        return -3 - last_axis(packed.name, axis, 3)
