"""What a quantised format is: how config.json names it, which tensors are one weight, and its numbers and scales.

A format is a class in a file of its own, and a line in the table of `registry`. Everything else (reading a weight, the
edit, its proof) asks the methods below. `Float8Format` is what two published formats have in common.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from abliterate.errors import CheckpointError, InputError, first_line
from abliterate.quantization.formats.grid import Grid, Part
from abliterate.storage.foreign_files import read_json

MAX_CONFIG_BYTES = 16 << 20
"""A config.json is some KB; lists of modules that are not quantised may take more."""

EXPONENTS = {getattr(torch, name) for name in ("float8_e8m0fnu",) if hasattr(torch, name)}
"""The dtype of powers of two, which older versions of torch lack."""


class UnreadFormatError(Exception):
    """What a format does not read, in words; `registry.read_format` says so with the way out."""


@dataclass(frozen=True)
class Companions:
    """The tensors on disk that are one quantised weight: the parameter that they stand for, its numbers, their scales."""

    parameter: str
    values: str
    scales: str


@dataclass(frozen=True)
class Packed:
    """One quantised weight as it is stored; `name` is its parameter's, for errors."""

    name: str
    values: Shaped[Tensor, "..."]
    scales: Shaped[Tensor, "..."]


@dataclass(frozen=True)
class Format(ABC):
    """How the weights of a checkpoint are quantised, as its config.json says.

    `strategies` are the ways a scale may lie: one per "tensor", "channel" (row) or "block" of `block` rows and
    columns. `power_of_two` says that scales are powers of two. A number is one of a grid (`nearest`) times its scale.
    """

    strategies: tuple[str, ...]
    block: tuple[int, int] | None = None
    power_of_two: bool = False

    method: ClassVar[str]
    """What config.json calls it (`quant_method`)."""

    words: ClassVar[str]
    """What messages call the part of it that is read."""

    unquantised_list: ClassVar[str] = "modules_to_not_convert"
    """What config.json calls the list of modules that are not quantised, where it has none yet."""

    scale_names: ClassVar[tuple[str, ...]]
    """What the scales of a weight are called: after the weight (`{}`), or after its module (`{module}`)."""

    dtype: ClassVar[torch.dtype]
    """What numbers are stored in."""

    per_element: ClassVar[int] = 1
    """Numbers in one stored element, neighbours along the last axis of the stored matrix."""

    top: ClassVar[float]
    """The greatest number of the grid."""

    reach: ClassVar[float]
    """The greatest number that is rounded to `top` with an error of half a step."""

    @classmethod
    @abstractmethod
    def read(cls, listed: Mapping[str, Any]) -> Format:
        """Return the format that a quantization_config with this `quant_method` describes.

        Raises UnreadFormatError for a kind of it that is not read, CheckpointError where it says what cannot be.
        """

    @abstractmethod
    def nearest(self, numbers: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Round to the nearest number of the grid, ties to even; beyond the top to the top."""

    @abstractmethod
    def gap(self, numbers: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Return at least the distance from a number of the grid to the next one, and no more than twice of it."""

    @abstractmethod
    def unpack(self, elements: Shaped[Tensor, "r elements"]) -> Float[Tensor, "r c"]:
        """Return the numbers of the grid that are stored."""

    @abstractmethod
    def pack(self, numbers: Float[Tensor, "r c"]) -> Shaped[Tensor, "r elements"]:
        """Return how numbers of the grid are stored; undoes `unpack` bit for bit."""

    def loads_in_transformers(self, values: Sequence[int]) -> bool:
        """Tell whether transformers dequantises numbers stored in this shape; where not, the live model gets them from here."""
        return True

    def parameter_of(self, values: str) -> str | None:
        """Return the parameter whose numbers a tensor of this name would hold, None when it can hold none."""
        return values

    def companions(self, name: str, on_disk: Container[str]) -> Companions | None:
        """Return the quantised weight whose numbers are in the tensor `name`, None when that is no such tensor.

        Raises CheckpointError where the name alone says that it is one, and there are no scales.
        """
        parameter = self.parameter_of(name)
        if parameter is None:
            return None
        module = name.removesuffix(".weight")
        for pattern in self.scale_names:
            scales = pattern.format(parameter, module=module)
            if scales in on_disk and scales != name:
                return Companions(parameter, name, scales)
        return None

    @property
    def scale_dtypes(self) -> set[torch.dtype]:
        """Return what scales may be stored in; powers of two come as a dtype of their own, or as bytes."""
        bytes_too = {torch.uint8} if self.power_of_two else set()
        return {torch.float32, torch.bfloat16, torch.float16, *EXPONENTS} | bytes_too

    def matrices(self, values: Sequence[int]) -> tuple[int, ...] | None:
        """Return the shape `[*experts, out, width]` of what numbers stored in this shape stand for, None for no such shape."""
        return tuple(values) if len(values) >= 2 else None

    def grid(self, packed: Packed) -> Grid:
        """Find how the scales of a weight lie. Raises CheckpointError when they do not fit the format."""
        values, scales = packed.values, packed.scales
        shape = self.matrices(values.shape)
        if shape and min(shape) > 0 and values.dtype == self.dtype and scales.dtype in self.scale_dtypes:
            *experts, out, width = shape
            for strategy in self.strategies:
                rows, columns = {"tensor": (out, width), "channel": (1, width)}.get(
                    strategy, self.block or (out, width)
                )
                grid = Grid(math.prod(experts), out, width, rows, columns)
                single = strategy == "tensor" and not experts and tuple(scales.shape) in ((), (1,))
                if single or tuple(scales.shape) == (*experts, *grid.counts[1:]):
                    return grid
        raise CheckpointError(
            f"tensor {packed.name}: expected {self.method} numbers with a scale per {' or '.join(self.strategies)}"
            f"{f' of {self.block[0]} x {self.block[1]}' if self.block else ''}, found {values.dtype} "
            f"{tuple(values.shape)} with scales {scales.dtype} {tuple(scales.shape)}; use the unquantised checkpoint"
        )

    def shape(self, packed: Packed) -> tuple[int, ...]:
        """Return the shape of the parameter. Raises CheckpointError as `grid`."""
        self.grid(packed)
        return tuple(packed.values.shape)

    def stored(self, weight: Float[Tensor, "..."], grid: Grid) -> Float[Tensor, "experts out width"]:
        """Return a parameter laid out as its stored matrices are: a view of one that is contiguous."""
        return weight.reshape(grid.experts, grid.out, grid.width)

    def stored_axis(self, packed: Packed, axis: int) -> int:
        """Return the axis of the stored matrix, -2 or -1, for an axis of the parameter. Raises InputError."""
        return last_axis(packed.name, axis, packed.values.dim())

    def elements(self, part: Part) -> Part:
        """Return where the elements of a part are."""
        rows, columns = part
        return rows, slice(columns.start // self.per_element, columns.stop // self.per_element)

    def scale_numbers(self, stored: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return scales as numbers; in a byte they are the exponent of a power of two, 255 is NaN."""
        if stored.element_size() > 1:
            return stored.float()
        code = stored.view(torch.uint8).int()
        return torch.ldexp(torch.ones(code.shape), code - 127).masked_fill(code == 255, math.nan)

    def fitted_scales(self, greatest: Float[Tensor, "r c"], old: Shaped[Tensor, "r c"]) -> Shaped[Tensor, "r c"]:
        """Return the scales for blocks with these greatest sizes: the old ones where they fit."""
        before = self.scale_numbers(old)
        size = greatest / before
        fits = (size >= self.top / 2) & (size <= self.reach) | (greatest == 0) & (before > 0)
        fresh = torch.where(greatest > 0, greatest / self.top, 1.0)
        mantissa, exponent = torch.frexp(fresh)  # fresh = mantissa * 2**exponent, mantissa from 0.5 to 1
        exponent = (exponent - (mantissa == 0.5).int()).clamp(-127, 127)
        if old.element_size() == 1:
            code = torch.where(fits, old.view(torch.uint8), (exponent + 127).to(torch.uint8))
            return code.view(old.dtype)
        if self.power_of_two:
            fresh = torch.ldexp(torch.ones(exponent.shape), exponent)
        least = torch.finfo(old.dtype).smallest_normal * torch.finfo(old.dtype).eps  # no number is divided by 0
        return torch.where(fits, old, fresh.clamp(min=least).to(old.dtype))


@dataclass(frozen=True)
class Float8Format(Format):
    """Numbers in float8_e4m3fn, in the shape of their parameter, a scale for each tensor, row or block beside them."""

    dtype: ClassVar[torch.dtype] = torch.float8_e4m3fn
    top: ClassVar[float] = 448.0
    reach: ClassVar[float] = 464.0

    def nearest(self, numbers: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Round to the nearest number of the grid, ties to even; beyond the top to the top."""
        return numbers.clamp(-self.top, self.top).to(self.dtype).float()

    def gap(self, numbers: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Return the distance to the next number: three bits of mantissa, the least 2**-9."""
        return (numbers.abs() / 8).clamp(min=2**-9)

    def unpack(self, elements: Shaped[Tensor, "r elements"]) -> Float[Tensor, "r c"]:
        """Return the numbers of the grid that are stored."""
        return elements.float()

    def pack(self, numbers: Float[Tensor, "r c"]) -> Shaped[Tensor, "r elements"]:
        """Return how numbers of the grid are stored."""
        return numbers.to(self.dtype)

    def loads_in_transformers(self, values: Sequence[int]) -> bool:
        """Tell whether blocks divide the weight: transformers takes their size from the number of scales."""
        return self.block is None or not any(size % block for size, block in zip(values[-2:], self.block, strict=True))


def last_axis(name: str, axis: int, dims: int) -> int:
    """Return an axis of a parameter with `dims` axes as -2 or -1. Raises InputError for any other."""
    along = axis if axis < 0 else axis - dims
    if along not in (-1, -2):
        raise InputError(f"tensor {name}: expected one of the last two axes to edit along, found {axis}")
    return along


def block_of(listed: Any) -> tuple[int, int] | None:
    """Return the rows and columns of a block as config.json lists them. Raises CheckpointError when they are none."""
    if listed is None:
        return None
    try:
        rows, columns = (int(number) for number in listed)
    except (OverflowError, TypeError, ValueError):  # the first of infinity, which Python's JSON knows
        rows = columns = 0
    if min(rows, columns) < 1:
        raise CheckpointError(
            f"config.json: block size: expected two whole numbers, found {str(listed)[:80]}; repair it"
        )
    return rows, columns


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config.json of a folder as it is written. Raises CheckpointError when it cannot be read."""
    try:
        config = read_json(folder / "config.json", MAX_CONFIG_BYTES)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: config.json cannot be read ({first_line(error)}); is it a model folder?"
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder}: config.json: expected an object; is it a model folder?")
    return config
