"""Files that somebody else made: opened only where they are files, and read as JSON that every part of the package can hold.

A folder that was downloaded or unpacked may hold a pipe, on which a read waits for ever, or a link to a device, which never
ends. JSON may nest deeper than a parser goes, hold numbers that no float holds, or half of a surrogate pair, which no file
can hold. All of it is a ValueError or an OSError here, which callers turn into their one line.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MAX_JSON_BYTES = 256 << 20
"""The most that is read of a JSON file: the largest records of ours hold some tens of MB of replies."""

MAX_DIGITS = 100
"""Of a whole number: a float holds 308, and nothing that is counted here comes near."""

MAX_DEPTH = 200
"""How deeply lists and objects may lie in one another; records of ours take six."""

KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
"""What a path may lead to, beside files and folders."""


def open_foreign(path: Path, buffering: int = -1) -> Any:
    """Return a file, opened to read its bytes, without waiting for anybody.

    Raises OSError, also for a pipe, a device or a socket, or a link to one.
    """
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        require_plain(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb", buffering=buffering)
    except BaseException:
        os.close(descriptor)
        raise


def require_file(path: Path) -> None:
    """Raise OSError for what is no file, before a library opens it: a pipe, a device, a socket, a folder, nothing."""
    mode = path.stat().st_mode
    require_plain(path, mode)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def require_files(folder: Path) -> None:
    """Raise OSError for the first entry of a folder that is a pipe, a device or a socket: libraries would wait for it."""
    for path in sorted(folder.iterdir()):
        if path.exists():  # a link to nothing is none of these
            require_plain(path, path.stat().st_mode)


def no_file(mode: int) -> str | None:
    """Return what a path with such a mode leads to that is neither a file nor a folder, None for these."""
    return next((kind for is_kind, kind in KINDS if is_kind(mode)), None)


def require_plain(path: Path, mode: int) -> None:
    """Raise OSError for the mode of a pipe, a device or a socket."""
    kind = no_file(mode)
    if kind is not None:
        raise OSError(errno.EINVAL, f"{path.name} is {kind}, not a file; take it away")


def read_foreign(path: Path, most: int = MAX_JSON_BYTES) -> bytes:
    """Return what is in a file. Raises OSError as `open_foreign`, and ValueError for more than `most` bytes."""
    file: BinaryIO
    with open_foreign(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    return content


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> Any:
    """Return what a JSON file in UTF-8 holds. Raises OSError and ValueError, whose text is one short line."""
    return parse_json(read_foreign(path, most))


def parse_json(content: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises ValueError for what is none, for more than MAX_DEPTH lists in one another, for a number of more than MAX_DIGITS
    digits, for half of a surrogate pair, and for bytes that are not UTF-8.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(text, parse_int=whole_number)
        check_depth(value)
        if "\\u" in text:  # how half of a pair comes into JSON; one in the text itself is no UTF-8
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("its lists and objects lie too deeply in one another") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which no file can hold") from None
    return value


def whole_number(digits: str) -> int:
    """Return a whole number of JSON. Raises ValueError for one that no float holds."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def check_depth(value: Any) -> None:
    """Raise RecursionError where lists and objects lie more than MAX_DEPTH deep in one another."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += [each for each in one.values() if isinstance(each, dict | list)]
            elif isinstance(one, list):
                inner += [each for each in one if isinstance(each, dict | list)]
        level = inner
        if not level:
            return
    raise RecursionError
