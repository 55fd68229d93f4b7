"""Files written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from abliterate.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: the destination is then not locked
    fcntl = None  # type: ignore[assignment]


def write_whole(target: Path, text: str) -> None:
    """Write a single file beside its place and move it there, so that no reader sees half of one.

    Raises InputError when the folder is missing or cannot be written.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(text.encode("utf-8", errors="replace"))
        partial.replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another place with --out") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
