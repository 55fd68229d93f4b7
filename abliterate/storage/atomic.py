"""Files written whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from abliterate.errors import InputError

NAME_LENGTH = 50
"""Characters of the target's name in the name of the path beside it, which must not be too long for a file system."""


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a path beside `target` to write a file or a folder to; leaving the context moves it there by one rename.

    A link of the name of `target` is replaced, not followed.

    No reader sees half of one, and a killed process leaves at most the path beside it. Where the context ends in an
    error, `target` stays as it was. Raises OSError where it cannot be moved.
    """
    # Nobody can guess the name, so nobody has put a link there.
    partial = target.with_name(f".{target.name[:NAME_LENGTH]}.{secrets.token_hex(8)}.partial")
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
