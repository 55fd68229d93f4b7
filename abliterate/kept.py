"""Results kept on disk as they come, so that work that was killed goes on where it stopped.

A file holds JSON lines, each a key and a record. Nothing is ever rewritten: a line is appended in one write, so that
several processes may keep results in the same file, and what a kill has torn is skipped when the file is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from abliterate.errors import InputError


class KeptRecords:
    """The records of one file: those that it held when it was opened, and those added since."""

    def __init__(self, path: Path) -> None:
        """Read `path` where it is there. Raises InputError when it cannot be read."""
        self.path = path
        self._records = read_records(path)

    def __len__(self) -> int:
        return len(self._records)

    def known(self, key: str) -> Mapping[str, Any] | None:
        """Return the record kept under `key`, or None."""
        return self._records.get(key)

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep a record: on return a kill of this process does not lose it.

        Raises InputError when it cannot be written.
        """
        line = json.dumps({"key": key, **record}).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                # A torn line is left where it is: to cut it off could cut a line that another process adds meanwhile.
                line = b"\n" + line if ends_torn(file) else line
                if file.write(line) != len(line):
                    raise OSError("no space left on device")
        except OSError as error:
            raise InputError(
                f"cannot keep replies in {self.path.parent}: {error.strerror or error}; free space there or choose "
                "another cache folder, the replies kept so far stay"
            ) from error
        self._records[key] = record


def digest(value: object) -> str:
    """Return the SHA-256 of a value's JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_records(path: Path) -> dict[str, Mapping[str, Any]]:
    """Return the records of a file by key; lines that a kill has torn are skipped.

    Raises InputError when the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; choose another cache folder") from error
    records: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # torn
            continue
        if isinstance(record, dict) and "key" in record:  # else torn where a number or nothing is left
            records[record.pop("key")] = record
    return records


def ends_torn(file: BinaryIO) -> bool:
    """Return whether the file's last line has no end."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
