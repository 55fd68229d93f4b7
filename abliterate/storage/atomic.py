"""Files written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from abliterate.errors import InputError


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a path beside `target` to write a file or a folder to; leaving the context moves it there by one rename.

    No reader sees half of one, and a killed process leaves at most the path beside it. Where the context ends in an
    error, `target` stays as it was. Raises OSError where it cannot be moved.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text_whole(target: Path, text: str) -> None:
    """Write a text file whole or not at all. Raises InputError when the folder is missing or cannot be written."""
    try:
        with written_whole(target) as partial:
            partial.write_bytes(text.encode("utf-8", errors="replace"))
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another place with --out") from error
