"""Directions: one for every position and layer, however they were made (`methods`); saved as safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from abliterate.errors import InputError
from abliterate.projection import ZERO_LENGTH, normalize

DIRECTIONS_RECORD = "abliterate"


@dataclass(frozen=True)
class Directions:
    """One difference per position and layer; `directions[l]` is the unit vector at the last position.

    `differences` keep their length: that is what activation addition adds.

    Examples:
        >>> directions.depth, directions.positions
        (8, (-4, -3, -2, -1))
        >>> directions[4].shape, round(float(directions[4].norm()), 3)
        (torch.Size([160]), 1.0)
        >>> directions.exists(0)  # the embedding of the template's last token is the same for all prompts
        False
    """

    differences: Float[Tensor, "positions layers d_model"]
    positions: tuple[int, ...]
    method: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, layer: int) -> Float[Tensor, " d_model"]:
        return self.at(layer)

    @property
    def depth(self) -> int:
        """Return L: there is a direction for each of `resid[0..L]`."""
        return self.differences.shape[1] - 1

    @property
    def digest(self) -> str:
        """Return a SHA-256 over the differences, bit for bit, and their places."""
        whole = hashlib.sha256(repr([self.differences.shape, self.differences.dtype, self.positions]).encode())
        whole.update(self.differences.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return whole.hexdigest()

    def difference(self, layer: int, position: int = -1) -> Float[Tensor, " d_model"]:
        """Return the difference at `resid[layer]`, in float32. Raises InputError for a place that is not there."""
        if not 0 <= layer <= self.depth:
            raise InputError(f"--layer {layer} is out of range; the model has resid[0] to resid[{self.depth}]")
        if position not in self.positions:
            raise InputError(f"position {position} was not captured; there are {', '.join(map(str, self.positions))}")
        return self.differences[self.positions.index(position), layer].float()

    def exists(self, layer: int, position: int = -1) -> bool:
        """Whether harmful and harmless prompts differ there at all; at `resid[0]` template tokens do not."""
        return not bool(self.difference(layer, position).norm() <= ZERO_LENGTH)  # NaN is there, and `at` says so

    def at(self, layer: int, position: int = -1) -> Float[Tensor, " d_model"]:
        """Return the unit direction at `resid[layer]`, in float32. Raises InputError where there is none."""
        if not self.exists(layer, position):
            raise InputError(
                f"harmful and harmless prompts do not differ at resid[{layer}], position {position}; choose another layer"
            )
        return normalize(self.difference(layer, position))

    def save(self, path: Path, position: int, more: Mapping[str, Tensor] | None = None) -> None:
        """Write `directions.safetensors`: a unit row `resid.{l}` for every layer that has one, at one position.

        `more` are further unit rows, such as one that a search learned. The record has the lengths of the differences.
        """
        rows = {
            f"resid.{layer}": self.at(layer, position).contiguous()
            for layer in range(self.depth + 1)
            if self.exists(layer, position)
        }
        lengths = {name: float(self.difference(int(name.removeprefix("resid.")), position).norm()) for name in rows}
        record = {**self.metadata, "position": position, "method": self.method, "lengths": lengths}
        write_rows(path, {**rows, **(more or {})}, record)


def write_rows(path: Path, rows: Mapping[str, Float[Tensor, " d_model"]], record: Mapping[str, Any]) -> None:
    """Write rows by name, and what is known of them, as `directions.files.read_directions` reads both."""
    # One entry: the library writes several in an order that changes from run to run, and so the bytes.
    save_file(dict(rows), path, metadata={DIRECTIONS_RECORD: json.dumps(record)})
