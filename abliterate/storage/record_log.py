"""Results kept on disk as they come, so that work that was killed goes on where it stopped.

A file holds JSON lines, each a key and a record. Nothing is ever rewritten: a line is appended in one write, so that
several processes may keep results in the same file, and what a kill has torn is skipped when the file is read.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from abliterate.errors import InputError
from abliterate.storage.foreign_files import parse_json
from abliterate.storage.own_files import append_own, own_folder, read_own

Value = TypeVar("Value")
Kept = TypeVar("Kept", bound="RecordLog")


class RecordLog:
    """The records of one file: those that it held when it was opened, and those added since."""

    def __init__(self, path: Path) -> None:
        """Read `path` where it is there. Raises InputError when it cannot be read."""
        self.path = path
        self._scope = ""
        self._writes = True
        self._records = read_records(path)

    def __len__(self) -> int:
        return len(self._records)

    def under(self: Kept, *parts: object) -> Kept:
        """Return the same records for keys that mean something only together with `parts`, which json can hold."""
        scoped = copy.copy(self)
        scoped._scope = f"{digest([self._scope, *parts])} "
        return scoped

    def reading(self: Kept) -> Kept:
        """Return the same records for a process that shall add none: another, which does the same, keeps them."""
        reader = copy.copy(self)
        reader._writes = False
        return reader

    def known(self, key: str) -> Mapping[str, Any] | None:
        """Return the record kept under `key`, or None."""
        return self._records.get(self._scope + key)

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep a record: on return a kill of this process does not lose it.

        Raises InputError when it cannot be written.
        """
        if not self._writes:
            return
        key = self._scope + key
        line = json.dumps({"key": key, **record}).encode() + b"\n"
        with self.writing():
            own_folder(self.path.parent)
            with append_own(self.path) as file:
                # A torn line is left where it is: to cut it off could cut a line that another process adds meanwhile.
                line = b"\n" + line if ends_torn(file) else line
                if file.write(line) != len(line):
                    raise OSError("no space left on device")
            self._records[key] = record

    def once(self, key: object, make: Callable[[], Value]) -> Value:
        """Return the value kept under what `key` holds, or make it and keep it; json must hold both without loss."""
        name = digest(key)
        known = self.known(name)
        if known is not None and "value" in known:
            value: Value = known["value"]
            return value
        value = make()
        self.add(name, {"value": value})
        return value

    def file(self, key: object) -> Path:
        """Return where a tensor goes that is kept beside the records."""
        return self.path.parent / f"{digest([self._scope, key])}.safetensors"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside the context something is kept: raises InputError when it cannot be."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"cannot keep replies in {self.path.parent}: {error.strerror or error}; free space there or choose "
                "another cache folder, the replies kept so far stay"
            ) from error


class Unfinished(RecordLog):
    """What an interrupted command has left in a folder of its own, for the same command to go on from.

    A folder that cannot be used does not end the command: it then keeps nothing, and `notes` say so.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "units.jsonl"
        self._scope = ""
        self._writes = True
        self._records: dict[str, Mapping[str, Any]] = {}
        self._problems: list[str] = []
        with self.writing():
            own_folder(folder)
            self._records = read_records(self.path)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return one line where something could not be kept, or none."""
        return tuple(
            f"the steps before writing could not be kept in {self.path.parent.parent} ({problem}): had this run been "
            "interrupted, the same command would have begun them again"
            for problem in self._problems[:1]
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside the context something is kept; what cannot be is noted."""
        try:
            yield
        except (OSError, InputError) as error:
            self._problems.append(getattr(error, "strerror", None) or str(error))

    def remove(self) -> None:
        """Forget all of it: the command has finished, and whoever asks again measures anew."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


def once(kept: RecordLog | None, key: object, make: Callable[[], Value]) -> Value:
    """Do `kept.once`; make the value where nothing is kept."""
    return make() if kept is None else kept.once(key, make)


def code_digest() -> str:
    """Return the SHA-256 of the package's own code: another version of it may compute otherwise."""
    whole = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()


def digest(value: object) -> str:
    """Return the SHA-256 of a value's JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_records(path: Path) -> dict[str, Mapping[str, Any]]:
    """Return the records of a file by key; lines that a kill has torn are skipped.

    Raises InputError when the file cannot be read.
    """
    try:
        lines = read_own(path).split(b"\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; choose another cache folder") from error
    records: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        try:
            record = parse_json(line)
        except ValueError:  # torn, or damaged
            continue
        if isinstance(record, dict) and isinstance(
            record.get("key"), str
        ):  # else torn where a number or nothing is left
            records[record.pop("key")] = record
    return records


def ends_torn(file: BinaryIO) -> bool:
    """Return whether the file's last line has no end."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
