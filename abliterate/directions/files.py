"""Directions read from files: of a run, or control vectors."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from abliterate.directions.directions import DIRECTIONS_RECORD
from abliterate.errors import InputError, first_line
from abliterate.projection import normalize, unit_rows
from abliterate.storage.foreign_files import parse_json, require_file

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
    try:
        require_file(path)
        with safe_open(path, framework="pt") as file:
            rows = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            record = parse_json((file.metadata() or {}).get(DIRECTIONS_RECORD, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{path}: the directions cannot be read ({first_line(error)}); expected a safetensors file"
        ) from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: its record is no object; find the directions again")
    for name, row in rows.items():
        if row.dim() != 1 or not row.is_floating_point():
            raise InputError(
                f"{path}: {name} has shape {tuple(row.shape)} and dtype {row.dtype}; expected a vector of floats"
            )
    return rows, record
