"""Two folders that swap their names in one step, where the system has one: nobody finds a name absent in between."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abliterate.errors import InputError
from abliterate.storage.own_files import is_folder

AT_FDCWD = -100
RENAME_EXCHANGE = 2

NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV, errno.EPERM}
"""What the system answers where it, a file system, or a container's filter has no such step."""


def exchange(path: Path, other: Path) -> bool:
    """Let two folders of one parent swap their names; False where that takes more than one step, and nothing was done.

    Linux has it on its own file systems. Raises OSError for what would end two renames as well.
    """
    if sys.platform != "linux":
        return False
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # old libraries lack it
    if swap is None:
        return False
    sys.audit("os.rename", path, other, -1, -1)  # as Python's own renames say
    if swap(AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(other), ctypes.c_uint(RENAME_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(path), None, str(other))


def numbers_of(new: Path, old: Path) -> dict[str, int]:
    """Return what tells two folders apart after a kill: their numbers on the file system, which no new name changes."""
    return {"new": os.lstat(new).st_ino, "old": os.lstat(old).st_ino}


def exchanged(numbers: Mapping[str, Any], new: Path, old: Path) -> bool:
    """Tell whether the folder `new` was has the name `old` now, and the other its name; False where one is missing.

    Raises InputError where both are there and `numbers`, from `numbers_of` before, say neither.
    """
    if "new" not in numbers or not is_folder(new) or not is_folder(old):
        return False
    found = numbers_of(new, old)
    if found["new"] == numbers["new"]:
        return False
    if found == {"new": numbers.get("old"), "old": numbers["new"]}:
        return True
    raise InputError(
        f"{old} and {new}: a run was ended while they swapped their names, and nothing says any more which of them is "
        f"new; look at both, and move {new} away"
    )
