"""Named tensors in one safetensors file with a record of what they are: written whole, and read as what it may be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from abliterate.errors import InputError, first_line
from abliterate.storage.atomic import written_whole
from abliterate.storage.foreign_files import parse_json, require_file


def save_whole(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file whole or not at all. Raises InputError where it cannot be written."""
    try:
        with written_whole(path) as partial:
            save_file(dict(tensors), partial, metadata=dict(metadata))
    except (OSError, SafetensorError) as error:  # the latter for a folder that is not there, and a full disk
        raise InputError(f"{path}: cannot be written ({first_line(error)}); choose another place") from error


def load_whole(path: Path, record: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file, and the JSON object under `record` in its metadata; an empty one where there is none.

    Raises InputError when the file cannot be read, or its record is no object.
    """
    try:
        require_file(path)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            found = parse_json((file.metadata() or {}).get(record, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); expected a safetensors file") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: its record is no object; write the file again")
    return tensors, found
