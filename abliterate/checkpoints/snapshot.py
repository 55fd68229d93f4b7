"""What the files of a model were when it was opened, so that no record names others than those that were loaded.

A run takes hours, and a folder may be saved into again meanwhile. Of weights, size, times and header are compared (the
time of the last change of the file itself cannot be set back by who writes to it); of small files, what they hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from abliterate.checkpoints.shards import MAX_HEADER_BYTES, failing
from abliterate.errors import InputError
from abliterate.storage.names import DIRECTIONS, LOCAL

LOADED = (
    *("*.json", "*.jinja", "additional_chat_templates/*.jinja", "*.py", "*.model", "*.tiktoken", "*.spm", "*.bpe"),
    *("merges.txt", "vocab*.txt", "*.vocab", DIRECTIONS),
)
"""Files beside the weights that decide what is loaded: config, tokenizer, templates, code, an edit's own."""

SMALL = 256 << 20
"""Bytes up to which a file is read whole; of a larger one size and times count, as of weights."""

Stamp = tuple[int, int, int]
"""Size, and times of the last change of the data and of the file, in nanoseconds."""


@dataclass(frozen=True)
class Snapshot:
    """The files of a model as they were: weights by stamp and header, others by content, all by name in the folder."""

    folder: Path
    weights: Mapping[str, tuple[Stamp, str]] = field(hash=False)
    files: Mapping[str, str] = field(hash=False)
    stamps: Mapping[str, Stamp] = field(hash=False)

    @classmethod
    def of(cls, folder: Path, weights: Sequence[str]) -> Snapshot:
        """Look at all files. Raises CheckpointError for one that cannot be read."""
        with failing(f"{folder} cannot be read"):
            held = {name: (stamp_of(folder / name), header_digest(folder / name)) for name in weights}
            names = small_files(folder, weights)
            stamps = {name: stamp_of(folder / name) for name in names}
            return cls(folder, held, {name: digest_of(folder / name, stamps[name]) for name in names}, stamps)

    @property
    def identity(self) -> str:
        """Return a SHA-256 over everything, times included: the same only where nothing was written to since."""
        whole = [self.weights, self.files, self.stamps]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    def changed(self) -> str | None:
        """Return the name of a file that is another now, or was not there, or is gone; None where all are as they were."""
        for name, before in self.weights.items():
            if not (self.folder / name).is_file() or before != (
                stamp_of(self.folder / name),
                header_digest(self.folder / name),
            ):
                return name
        now = small_files(self.folder, list(self.weights))
        for name in sorted({*now, *self.files}):
            if name not in now or name not in self.files:
                return name
            stamp = stamp_of(self.folder / name)
            if stamp != self.stamps[name] and digest_of(self.folder / name, stamp) != self.files[name]:
                return name
        return None

    def require_unchanged(self) -> None:
        """Raise InputError, naming the file, where one is not as it was: what was found belongs to no model that is there."""
        with failing(f"{self.folder} cannot be read"):
            name = self.changed()
        if name is not None:
            raise InputError(
                f"{self.folder / name}: changed since it was opened, so that what was found is not of the model that is there "
                "now; nothing was published: run again"
            )


def small_files(folder: Path, weights: Sequence[str]) -> list[str]:
    """Return the files beside the weights that are loaded, by name in the folder, sorted."""
    found = {
        path.relative_to(folder).as_posix() for pattern in LOADED for path in folder.glob(pattern) if path.is_file()
    }
    return sorted(name for name in found - {*weights, *LOCAL} if not name.startswith("."))


def stamp_of(path: Path) -> Stamp:
    """Return size and times of the file behind a name."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def header_digest(path: Path) -> str:
    """Return the SHA-256 of the header of a safetensors file."""
    with path.open("rb") as file:
        prefix = file.read(8)
        return hashlib.sha256(prefix + file.read(min(int.from_bytes(prefix, "little"), MAX_HEADER_BYTES))).hexdigest()


def digest_of(path: Path, stamp: Stamp) -> str:
    """Return the SHA-256 of what a file holds, or of its stamp where it is large."""
    if stamp[0] > SMALL:
        return hashlib.sha256(repr(stamp).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()
