"""Files at names that others can guess: opened where they are ours, and never through a link that someone has put there.

A link at such a name, a file of another user, a pipe or a device is an OSError that says so.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

from abliterate.storage.cache import cache_folder
from abliterate.storage.foreign_files import parse_json

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""Not through a link at the end of the path, and without waiting for whoever writes into a pipe."""


def open_own(path: Path, flags: int, mode: int = 0o666) -> int:
    """Return the descriptor of a file of this user, opened as `os.open` does.

    Raises OSError, also for a link, a file of another user, and what is no file.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"{path} is a link, which is not followed")
    descriptor = os.open(path, flags | NO_FOLLOW | getattr(os, "O_BINARY", 0), mode)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, f"{path} is not a file")
        require_own(path, found)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_own(path: Path) -> bytes:
    """Return what is in a file of this user. Raises OSError as `open_own`."""
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
        return file.read()


def read_own_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of this user: nothing, when it cannot be read."""
    try:
        content = parse_json(read_own(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def append_own(path: Path) -> BinaryIO:
    """Return a file of this user, made where there is none, to read, and to write to at its end without a buffer.

    Raises OSError as `open_own`.
    """
    return os.fdopen(open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT), "a+b", buffering=0)


def write_own(path: Path, text: str) -> None:
    """Write a text to a file of this user, in the place of a link. Raises OSError as `open_own`."""
    discard_link(path)
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.write(text.encode("utf-8"))


def own_folder(path: Path, mode: int = 0o777) -> Path:
    """Make a folder where there is none, and return it.

    Raises OSError where it, or a folder between it and the user's cache folder, is a link or belongs to another user.
    """
    above = takewhile(lambda one: cache_folder() in one.parents, path.parents)
    for folder in reversed((path, *above)):
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ELOOP, f"{folder} is a link, which is not followed")
        require_own(folder, found)
    return path


def discard_link(path: Path) -> None:
    """Remove a link, whatever it leads to; anything else stays. Raises OSError where it cannot be removed."""
    if path.is_symlink():
        path.unlink(missing_ok=True)


def is_folder(path: Path) -> bool:
    """Tell whether there is a folder, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def is_own_file(path: Path) -> bool:
    """Tell whether there is a file of this user, and no link to one."""
    try:
        found = os.lstat(path)
        require_own(path, found)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode)


def require_own(path: Path, found: os.stat_result) -> None:
    """Raise OSError for what belongs to another user, `found` being what the system says of it."""
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid() and found.st_uid != made_by(path.parent):
        raise OSError(errno.EPERM, f"{path} belongs to another user")


def made_by(folder: Path) -> int | None:
    """Return whom a file system says that a new file of ours belongs to; None where there can be none.

    Some have one owner for everything, or take root for nobody.
    """
    with suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_uid
    return None
