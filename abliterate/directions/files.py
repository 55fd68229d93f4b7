"""Directions in files, written and read: of a run, of a study, or control vectors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from abliterate.errors import InputError
from abliterate.projection import normalize, unit_rows
from abliterate.storage.tensor_file import load_whole

DIRECTIONS_RECORD = "abliterate"

WHOLE_ROW = re.compile(r"position(-?[0-9]{1,9})/resid\.([0-9]{1,9})")
"""A difference as it is, in a file of all positions."""

UNIT_ROW = re.compile(r"resid\.([0-9]{1,9})")
"""A unit row at the one position that the file's record names."""

MOST_LAYERS = 10_000
"""Of a file, whose names are somebody else's word; no model comes near."""

UNIT_LENGTH = 1e-5


def load_direction(path: Path, name: str) -> Float[Tensor, " d_model"]:
    """Return one unit row, such as `resid.15`, of a file that `Directions.save` wrote.

    Raises InputError when the file cannot be read, has no such row, or the row is not a vector.
    """
    return load_basis(path, [name])[0]


def load_basis(path: Path, names: Sequence[str]) -> Float[Tensor, "k d_model"]:
    """Return some unit rows of such a file; several become orthonormal, in that order (Gram-Schmidt).

    Raises InputError as `load_direction`, for rows of different widths, and for rows that depend on each other.
    """
    rows, _ = read_directions(path)
    for name in names:
        if name not in rows:
            raise InputError(f"{path}: has no {name}; it has {', '.join(sorted(rows))}")
    if len({rows[name].shape for name in names}) > 1:
        raise InputError(f"{path}: {', '.join(names)} are of different widths; give directions of one model")
    # A unit row stays as it is, to the last bit: the same file gives the same edit.
    floats = [rows[name].float() for name in names]
    units = [row if abs(float(row.norm()) - 1) < UNIT_LENGTH else normalize(row) for row in floats]
    return torch.stack(units) if len(units) == 1 else unit_rows(torch.stack(units))


def load_differences(path: Path, like: str = "resid.0") -> dict[int, Float[Tensor, " d_model"]]:
    """Return the differences by layer, as long as they were: what activation addition adds.

    They are those of the same form and place as the row `like`, where a study names its rows after these.
    Raises InputError when the file cannot be read, or does not tell their lengths.
    """
    rows, record = read_directions(path)
    lengths = record.get("lengths")
    if not isinstance(lengths, dict) or not all(map(is_length, lengths.values())):
        raise InputError(f"{path}: does not tell how long the differences are; find the directions again")
    place = like[: like.rfind("/") + 1]
    names = [name for name in rows if re.fullmatch(rf"{re.escape(place)}resid\.[0-9]{{1,9}}", name) and name in lengths]
    return {int(name.rpartition(".")[2]): normalize(rows[name].float()) * lengths[name] for name in names}


def is_length(value: object) -> bool:
    """Tell whether a record's value is a length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def read_directions(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the rows and the record of a directions file; other tools' files have rows without a record.

    Raises InputError when the file cannot be read, or holds something else than vectors.
    """
    rows, record = load_whole(path, DIRECTIONS_RECORD)
    for name, row in rows.items():
        if row.dim() != 1 or not row.is_floating_point():
            raise InputError(
                f"{path}: {name} has shape {tuple(row.shape)} and dtype {row.dtype}; expected a vector of floats"
            )
    return rows, record


def write_rows(path: Path, rows: Mapping[str, Float[Tensor, " d_model"]], record: Mapping[str, Any]) -> None:
    """Write rows by name, and what is known of them, as `read_directions` reads both."""
    # One entry: the library writes several in an order that changes from run to run, and so the bytes.
    save_file(dict(rows), path, metadata={DIRECTIONS_RECORD: json.dumps(record)})


def whole_rows(
    differences: Float[Tensor, "positions layers d_model"], positions: Sequence[int]
) -> dict[str, Float[Tensor, " d_model"]]:
    """Return the differences that are not zero by the names that `whole_of` reads."""
    return {
        f"position{position}/resid.{layer}": row.contiguous()
        for position, rows in zip(positions, differences, strict=True)
        for layer, row in enumerate(rows)
        if bool(row.any())
    }


def whole_of(path: Path, rows: Mapping[str, Tensor], record: Mapping[str, Any]) -> tuple[Tensor, tuple[int, ...]]:
    """Return differences and positions of a file of all positions. Raises InputError where it does not hold what it tells."""
    found = {(int(one[1]), int(one[2])): row for name, row in rows.items() if (one := WHOLE_ROW.fullmatch(name))}
    shape: Any = record["shape"]
    positions: Any = record.get("positions")
    whole = isinstance(positions, list) and isinstance(shape, list) and len(shape) == 3 and len(positions) == shape[0]
    numbers = whole and all(isinstance(one, int) for one in (*positions, *shape))
    dtypes = {row.dtype for row in found.values()}
    if (
        not numbers
        or not 0 < shape[1] <= MOST_LAYERS
        or len(dtypes) > 1
        or {row.shape[0] for row in found.values()} - {shape[2]}
    ):
        raise InputError(f"{path}: its rows are not those that its record tells of; find the directions again")
    differences = torch.zeros(shape, dtype=next(iter(dtypes), torch.float64))
    for (position, layer), row in found.items():
        if position not in positions or layer >= shape[1]:
            raise InputError(
                f"{path}: position{position}/resid.{layer} is not of its record; find the directions again"
            )
        differences[positions.index(position), layer] = row
    return differences, tuple(positions)


def one_position_of(path: Path, rows: Mapping[str, Tensor], record: Mapping[str, Any]) -> Tensor:
    """Return the differences of a file of one position, `[1, layers, d_model]`; zero for a layer that has no row."""
    found = {int(one[1]): row.float() for name, row in rows.items() if (one := UNIT_ROW.fullmatch(name))}
    told = record.get("lengths")
    lengths = {name: one for name, one in told.items() if is_length(one)} if isinstance(told, dict) else {}
    if not found or max(found) >= MOST_LAYERS or len({len(row) for row in found.values()}) > 1:
        raise InputError(f"{path}: holds no directions by layer (rows resid.0, resid.1, ...); give those of one model")
    differences = torch.zeros(1, max(found) + 1, len(next(iter(found.values()))))
    for layer, row in found.items():
        differences[0, layer] = row * lengths.get(f"resid.{layer}", 1.0)
    return differences
