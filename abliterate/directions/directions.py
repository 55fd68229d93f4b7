"""Directions: one for every position and layer, however they were made (`methods`); saved as safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.capture import Activations
from abliterate.activations.notebook import frame_of, lines_by_layer, small_table
from abliterate.activations.separation import HALVES, Separation, along, check_sides, cosine_of, places_of
from abliterate.directions.files import (
    DIRECTIONS_RECORD,
    one_position_of,
    read_directions,
    whole_of,
    whole_rows,
    write_rows,
)
from abliterate.errors import InputError
from abliterate.hub.on_hub import OnHub
from abliterate.projection import ZERO_LENGTH, normalize
from abliterate.storage.names import DIRECTIONS
from abliterate.storage.tensor_file import save_whole


@dataclass(frozen=True, repr=False)
class Directions(OnHub):
    """One difference per position and layer; `directions[l]` is the unit vector at the last position.

    `differences` keep their length: that is what activation addition adds. Their length is that of the layers,
    `directions[-1]` the one at `resid[L]`, and `directions[2:5]` are the rows of three layers. Iterated over, each layer has
    its row; a row of zeros, which no intervention takes, where harmful and harmless prompts do not differ.

    Examples:
        >>> directions
        Directions(mean-difference, resid[0..8], positions -4..-1, d_model 160)
        >>> directions.depth, directions.positions
        (8, (-4, -3, -2, -1))
        >>> directions[4].shape, round(float(directions[4].norm()), 3)
        (torch.Size([160]), 1.0)
        >>> directions.exists(0)  # the embedding of the template's last token is the same for all prompts
        False
        >>> len(directions), torch.equal(directions[-1], directions[8])
        (9, True)
        >>> directions.save(out.with_suffix(".safetensors"))
        >>> Directions.load(out.with_suffix(".safetensors")).digest == directions.digest
        True
    """

    differences: Float[Tensor, "positions layers d_model"]
    positions: tuple[int, ...]
    method: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    _file = DIRECTIONS
    _hub_mixin_config = {"abliterate": "directions"}  # noqa: RUF012 (the mixin's own)

    def __len__(self) -> int:
        return self.differences.shape[1]

    def __getitem__(self, layer: int | slice) -> Float[Tensor, "*layers d_model"]:
        if isinstance(layer, slice):
            rows = [self.at(one) for one in range(len(self))[layer]]
            return torch.stack(rows) if rows else self.differences.new_empty(0, self.differences.shape[2]).float()
        return self.at(layer)

    def __iter__(self) -> Iterator[Float[Tensor, " d_model"]]:
        none = torch.zeros(self.differences.shape[2])
        return (self.at(layer) if self.exists(layer) else none.clone() for layer in range(len(self)))

    def __repr__(self) -> str:
        places = places_of(self.positions, len(self))
        return f"Directions({self.method}, {places}, d_model {self.differences.shape[2]})"

    def _repr_html_(self) -> str:
        told = {name: self.metadata[name] for name in ("model", "revision") if self.metadata.get(name)}
        places = {"positions": ", ".join(map(str, self.positions)), "layers": f"resid[0..{self.depth}]"}
        return small_table(
            "Directions", {"method": self.method, **places, "d_model": self.differences.shape[2], **told}
        )

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
        """Return the difference at `resid[layer]`, in float32; layers below 0 count from the end.

        Raises InputError for a place that is not there.
        """
        if not -len(self) <= layer <= self.depth:
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

    def separation(self, harmful: Activations, harmless: Activations) -> Separation:
        """Return how well these directions part two sides, at every position and layer of theirs.

        Give prompts that took no part in making them; `harmful.separation(harmless)` keeps that by itself. The cosine is
        that of the differences in means of two halves of the given prompts, whatever the method of these directions.
        Raises InputError for activations of another model or without these positions, and for fewer than 4 prompts a side.

        Examples:
            >>> sides = (load_prompts(f"{tiny}/{one}.txt").side("select").first(16) for one in ("harmful", "harmless"))
            >>> directions.separation(*(capture(model, tokenizer, side) for side in sides))
            Separation(resid[0..8], positions -4..-1, AUROC up to 1.00)
        """
        one, other = harmful.at(self.positions), harmless.at(self.positions)
        check_sides(one.resid, other.resid)
        if one.resid.shape[2:] != self.differences.shape[1:]:
            raise InputError(
                f"the activations have {tuple(one.resid.shape[2:])} layers and width, the directions "
                f"{tuple(self.differences.shape[1:])}; capture with the model that they are of"
            )
        first, second = (one[half].mean() - other[half].mean() for half in HALVES)
        return Separation(self.positions, *along(self.differences, one.resid, other.resid), cosine_of(first, second))

    def to_pandas(self) -> Any:
        """Return a data frame of the differences: a row for every (position, layer), a column for every number."""
        return frame_of(
            self.differences, {"position": self.positions, "layer": range(len(self))}, range(self.differences.shape[2])
        )

    def plot(self) -> Any:
        """Return a plotly Figure of the lengths of the differences by layer, a line for each position."""
        return lines_by_layer("length of the difference", self.differences.cpu().double().norm(dim=-1), self.positions)

    def save(self, path: Path | str, position: int | None = None, more: Mapping[str, Tensor] | None = None) -> None:
        """Write `directions.safetensors`: a unit row `resid.{l}` for every layer that has one, at one position.

        Without a `position` the file also holds the differences of all positions, bit for bit, and its unit rows are those
        of the last position. `more` are further unit rows, such as one that a search learned. The record has the lengths
        of the differences. Raises InputError where a file of all positions cannot be written.
        """
        here = self.positions[-1] if position is None else position
        rows = {
            f"resid.{layer}": self.at(layer, here).contiguous()
            for layer in range(self.depth + 1)
            if self.exists(layer, here)
        }
        lengths = {name: float(self.difference(int(name.removeprefix("resid.")), here).norm()) for name in rows}
        record = {**self.metadata, "position": here, "method": self.method, "lengths": lengths}
        if position is not None:
            return write_rows(Path(path), {**rows, **(more or {})}, record)
        record |= {"positions": self.positions, "shape": list(self.differences.shape)}
        whole = {DIRECTIONS_RECORD: json.dumps(record)}
        return save_whole(Path(path), {**rows, **whole_rows(self.differences, self.positions), **(more or {})}, whole)

    @classmethod
    def load(cls, path: Path | str) -> Directions:
        """Read what `save` wrote, given the file or its folder, such as that of a finished run.

        Of a file of one position the differences are its unit rows at the lengths that it tells (1 where it tells none), in
        float32; rows of other names, such as those a search learned, are left out. Raises InputError for a file that cannot
        be read or holds no row `resid.{l}`.
        """
        place = cls.file_in(Path(path))
        rows, record = read_directions(place)
        known = {"position", "method", "lengths", "positions", "shape"}
        about = str(record.get("method", "unknown")), {name: one for name, one in record.items() if name not in known}
        if "shape" in record:
            return cls(*whole_of(place, rows, record), *about)
        position = record.get("position", -1)
        return cls(one_position_of(place, rows, record), (position if isinstance(position, int) else -1,), *about)
