"""Temporary folders, for clones and what is compared: where there is no space for one, one line says which folder is full."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from abliterate.errors import InputError, first_line


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a new temporary folder, and remove it in the end. Raises InputError where none can be made, or written to."""
    with writing_to("the temporary folder", "set TMPDIR to another folder"), tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def writing_to(place: str, otherwise: str) -> Iterator[None]:
    """Turn what the system says, also by way of safetensors, into one line: what cannot be written to, and the way out."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{place} cannot be used ({error.strerror or error}); free space there, or {otherwise}"
        ) from error
    except SafetensorError as error:
        if not full_disk(error):
            raise
        raise InputError(
            f"{place} cannot be written to ({first_line(error)}); free space there, or {otherwise}"
        ) from error


def full_disk(error: BaseException) -> bool:
    """Tell whether safetensors says that the system did not let it write."""
    return isinstance(error, SafetensorError) and "I/O error" in str(error)
