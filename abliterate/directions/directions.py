"""Directions: the difference in means and its projected kin; saved and loaded as safetensors.

Difference in means: Arditi et al. 2024, arXiv 2406.11717, section 2.3. Projected: DESIGN section 3.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from abliterate.activations.capture import Activations
from abliterate.errors import InputError
from abliterate.projection import ZERO_LENGTH, normalize, remove_component

Method = Literal["projected", "mean-difference"]
RECORD = "abliterate"
UNIT = 1e-5

METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Directions:
    """One difference per position and layer; `directions[l]` is the unit vector at the last position.

    `differences` keep their length: that is what activation addition adds.
    """

    differences: Float[Tensor, "positions layers d_model"]
    positions: tuple[int, ...]
    method: Method
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
        return bool(self.difference(layer, position).norm() > ZERO_LENGTH)

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
        # One entry: the library writes several in an order that changes from run to run, and so the bytes.
        save_file({**rows, **(more or {})}, path, metadata={RECORD: json.dumps(record)})


def difference_in_means(
    harmful: Activations, harmless: Activations, method: Method = "projected", metadata: Mapping[str, Any] | None = None
) -> Directions:
    """Return `mean(harmful) - mean(harmless)` at every position and layer.

    `projected` (the default) also removes the component along the harmless mean at the same place, so that
    what harmless prompts have in common stays; `mean-difference` is the plain one.
    """
    if method not in METHODS:
        raise InputError(f"--direction {method}: unknown; choose among {', '.join(METHODS)}")
    if harmful.positions != harmless.positions:
        raise InputError(f"the two captures have different positions: {harmful.positions} and {harmless.positions}")
    usual = harmless.mean()
    difference = harmful.mean() - usual
    if method == "projected":
        difference = remove_component(difference, usual)
    return Directions(difference, harmful.positions, method, dict(metadata or {}))


def load_direction(path: Path, name: str) -> Float[Tensor, " d_model"]:
    """Return one unit row, such as `resid.15`, of a file that `Directions.save` wrote.

    Raises InputError when the file cannot be read, has no such row, or the row is not a vector.
    """
    rows, _ = read_directions(path)
    if name not in rows:
        raise InputError(f"{path}: has no {name}; it has {', '.join(sorted(rows))}")
    row = rows[name].float()
    # A unit row stays as it is, to the last bit: the same file gives the same edit.
    return row if abs(float(row.norm()) - 1) < UNIT else normalize(row)


def load_differences(path: Path) -> dict[int, Float[Tensor, " d_model"]]:
    """Return the differences by layer, as long as they were: what activation addition adds.

    Raises InputError when the file cannot be read, or does not tell their lengths.
    """
    rows, record = read_directions(path)
    lengths = record.get("lengths")
    if not isinstance(lengths, dict) or not all(isinstance(one, int | float) for one in lengths.values()):
        raise InputError(f"{path}: does not tell how long the differences are; find the directions again")
    names = [name for name in rows if name.startswith("resid.") and name in lengths]
    return {int(name.removeprefix("resid.")): normalize(rows[name].float()) * lengths[name] for name in names}


def read_directions(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the rows and the record of a directions file; other tools' files have rows without a record.

    Raises InputError when the file cannot be read, or holds something else than vectors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            rows = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            record = json.loads((file.metadata() or {}).get(RECORD, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: the directions cannot be read ({error}); expected a safetensors file") from error
    for name, row in rows.items():
        if row.dim() != 1 or not row.is_floating_point():
            raise InputError(
                f"{path}: {name} has shape {tuple(row.shape)} and dtype {row.dtype}; expected a vector of floats"
            )
    return rows, record
