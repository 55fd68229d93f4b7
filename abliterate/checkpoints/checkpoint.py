"""Safetensors on disk: what a checkpoint holds, one tensor of it, and a copy of a shard with some tensors edited."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from torch import Tensor

from abliterate.checkpoints.other_files import file_stays, folder_stays, leads_out, matches, named, read_by_loaders
from abliterate.checkpoints.shard_copy import BLOCK, Edit, copy_shard
from abliterate.checkpoints.shards import (
    MAX_HEADER_BYTES,
    Shard,
    TensorEntry,
    cut_short,
    damaged,
    failing,
    parse_object,
    read_shard,
    read_tensor,
)
from abliterate.errors import CheckpointError
from abliterate.progress import SILENT, Advance, Progress
from abliterate.quantization.formats.base import Companions, Format
from abliterate.quantization.formats.registry import quantized_pairs
from abliterate.storage.foreign_files import open_foreign, read_foreign, require_files
from abliterate.storage.names import ADAPTER, CONFIG, INDEX, MODEL_WEIGHTS

SAMPLE = 64 << 10

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint's weights are quantised: the format, None where they are not, and which tensors are one weight."""

    format: Format | None
    pairs: tuple[Companions, ...]


@dataclass(frozen=True)
class Checkpoint:
    """The safetensors of one folder, validated when opened; `index` is the name of the index file, if there is one.

    `oddities` says in what the index and the shards disagree that plain transformers loads all the same.
    """

    folder: Path
    shards: tuple[Shard, ...]
    tensors: Mapping[str, TensorEntry] = field(hash=False)
    index: str | None = None
    oddities: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read and check every header of the folder. Raises CheckpointError, which names what is wrong with what."""
        folder = Path(folder)
        index, names, weight_map = _layout(folder)
        with failing(f"{folder} cannot be read"):
            require_files(folder)
        shards = tuple(read_shard(folder, name) for name in names)
        tensors: dict[str, TensorEntry] = {}
        for entry in (entry for shard in shards for entry in shard.tensors):
            first = tensors.setdefault(entry.name, entry)
            if first is not entry:
                raise CheckpointError(
                    f"{folder / entry.shard}: tensor {entry.name!r} is in {first.shard} too, and which of both a model gets "
                    "depends on who loads it; write the checkpoint anew (transformers: from_pretrained, then save_pretrained)"
                )
        if not tensors:
            raise damaged(folder / names[0], "expected tensors, found none")
        oddities = _oddities(folder / INDEX, weight_map, tensors) if weight_map is not None else ()
        return cls(folder, shards, tensors, index, oddities)

    @property
    def total_bytes(self) -> int:
        """Bytes of all shards, headers included: what a copy takes."""
        return sum(shard.size for shard in self.shards)

    @cached_property
    def quantization(self) -> Quantization:
        """How the weights are quantised: config.json is read for it once.

        Raises CheckpointError when it cannot be read, or says a format that is not.
        """
        format, pairs = quantized_pairs(self.folder, self.tensors.keys())
        return Quantization(format, tuple(pairs))

    def path(self, name: str) -> Path:
        """Return the path of the shard that is called so."""
        return self.folder / name

    def entry(self, name: str) -> TensorEntry:
        """Look a tensor up. Raises CheckpointError for a name that is not there."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.folder}: tensor {name!r} is not in the checkpoint; check the name")
        return self.tensors[name]

    def read(self, name: str) -> Tensor:
        """Read one tensor, and only its bytes; the caller owns the result."""
        entry = self.entry(name)
        path = self.path(entry.shard)
        with failing(f"{path} cannot be read"), open_foreign(path, buffering=0) as file:
            return read_tensor(file, entry)

    def files(self) -> list[Path]:
        """List the other files of a model that travel along (tokenizer, templates, code, index), relative and sorted.

        Raises CheckpointError for a link to nothing, and where one that a load needs leads out of the folder.
        """
        return [path for path, travels in self._others() if travels]

    def left_behind(self) -> list[Path]:
        """List what does not travel, so that a caller can say so; folders stand for all they hold.

        Apart from shards, what is hidden, and what every run writes anew.
        """
        return named([path for path, travels in self._others() if not travels])

    def _others(self) -> list[tuple[Path, bool]]:
        shards = {PurePosixPath(shard.name) for shard in self.shards}
        found: list[tuple[Path, bool]] = []
        for parent, folders, files in os.walk(self.folder, onerror=_cannot_list):
            inside = Path(parent).relative_to(self.folder)
            # Links to folders are not followed: they may lead anywhere, and in circles.
            stay = {name for name in folders if folder_stays(name) or Path(parent, name).is_symlink()}
            folders[:] = sorted(set(folders) - stay)
            found += [(inside / name, False) for name in stay]
            for path in (inside / name for name in files):
                if PurePosixPath(path.as_posix()) in shards:
                    continue
                travels = path.as_posix() == self.index or not file_stays(self.folder, path, self.tensors)
                if travels and not (self.folder / path).is_file():
                    raise CheckpointError(f"{self.folder / path} is a link to nothing; download the checkpoint again")
                out = travels and leads_out(self.folder, path)
                if out and (read_by_loaders(path) or path.as_posix() == self.index):
                    raise CheckpointError(
                        f"{self.folder / path} is a link out of the folder, and a copy would take along what it leads to; "
                        "put the file itself in its place (weights may be links)"
                    )
                found.append((path, travels and not out))
        return sorted(found)

    def fingerprint(self) -> str:
        """Identify this local checkpoint for caches, without reading all of it.

        Covers config.json, and of each shard: name, size, header, modification time of the file behind
        a link, and 64 KiB from the beginning, middle and end of the data. It misses a change elsewhere in
        the data that keeps size and time, and takes a copy with new times for another checkpoint.
        """
        digest = hashlib.sha256()

        def add(part: bytes) -> None:
            digest.update(len(part).to_bytes(8, "little") + part)  # with its length, so that parts cannot run together

        config = self.folder / CONFIG
        with failing(f"{self.folder} cannot be read"):
            add(read_foreign(config) if config.is_file() else b"")
            for shard in self.shards:
                with open_foreign(self.path(shard.name)) as file:
                    add(f"{shard.name}\n{shard.size}\n{os.fstat(file.fileno()).st_mtime_ns}".encode())
                    add(file.read(shard.header_bytes))
                    data = shard.size - shard.header_bytes
                    for offset in (0, max(0, data - SAMPLE) // 2, max(0, data - SAMPLE)):
                        file.seek(shard.header_bytes + offset)
                        add(file.read(SAMPLE))
        return digest.hexdigest()


def content_hash(path: Path, progress: Progress = SILENT) -> str:
    """Return the sha256 of a file, in hexadecimal, reading it in blocks."""
    digest = hashlib.sha256()
    with failing(f"{path} cannot be read"), open_foreign(path) as file:
        size = os.fstat(file.fileno()).st_size
        with progress.step(f"hashing {path.name}", size, "B") as advance:
            while block := file.read(BLOCK):
                digest.update(block)
                advance(len(block))
    return digest.hexdigest()


def equal_bytes(a: Checkpoint, b: Checkpoint, name: str) -> bool:
    """Tell whether a tensor has the same dtype, shape and bytes in both checkpoints, reading it in blocks."""
    left, right = a.entry(name), b.entry(name)
    if (left.dtype, left.shape) != (right.dtype, right.shape):
        return False
    paths = a.path(left.shard), b.path(right.shard)
    with (
        failing(f"{paths[0]} or {paths[1]} cannot be read"),
        open_foreign(paths[0]) as one,
        open_foreign(paths[1]) as other,
    ):
        one.seek(left.start)
        other.seek(right.start)
        remaining = left.nbytes
        while remaining:
            count = min(BLOCK, remaining)
            blocks = one.read(count), other.read(count)
            for path, entry, block in zip(paths, (left, right), blocks, strict=True):
                if len(block) < count:
                    raise cut_short(path, entry, remaining, len(block))
            if blocks[0] != blocks[1]:
                return False
            remaining -= count
    return True


def write_shard(
    source: Checkpoint,
    shard: Shard,
    target: Path,
    edit: Mapping[str, Edit],
    advance: Advance = lambda count: None,
) -> None:
    """Write a copy of `shard` to `target` in which the tensors named in `edit` went through their functions.

    Header, order, dtypes and metadata stay byte for byte; so do all other tensors, whose bytes do not pass
    through torch. Names in `edit` that lie in other shards are left to those. On failure the target is removed.
    """
    for name in edit:
        source.entry(name)
    with failing(f"{target} cannot be written"):
        if any(target.exists() and target.samefile(source.path(other.name)) for other in source.shards):
            raise CheckpointError(f"{target} is a file of the checkpoint that is read; choose another --out")
    copy_shard(source.path(shard.name), shard, target, edit, advance)


def _layout(folder: Path) -> tuple[str | None, list[str], Mapping[str, str] | None]:
    """Find the shards of a folder, as transformers would: one file, else the index, else the only safetensors."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; expected one with {MODEL_WEIGHTS} or {INDEX}; check the path")
    if os.path.lexists(folder / MODEL_WEIGHTS):
        return None, [MODEL_WEIGHTS], None
    if os.path.lexists(folder / INDEX):
        weight_map = _read_index(folder)
        return INDEX, sorted(set(weight_map.values())), weight_map
    with failing(f"{folder} cannot be read"):
        names = sorted(path.name for path in folder.iterdir())
    if ADAPTER in names:
        raise CheckpointError(
            f"{folder}: is a PEFT adapter, which has no weights of the model itself; give the model that it stands on, or "
            "merge it first (peft: merge_and_unload, then save_pretrained)"
        )
    found = [name for name in names if fnmatch(name, "*.safetensors") and not matches(name, ("consolidated*",))]
    own_format = [name for name in names if matches(name, ("consolidated*",))]
    if own_format and not found:
        raise CheckpointError(
            f"{folder}: found {own_format[0]} alone, the weights in their maker's own format; only the format of "
            f"transformers is read ({MODEL_WEIGHTS} or {INDEX}); download that, or convert it"
        )
    if len(found) == 1:
        return None, found, None
    if found:
        raise damaged(folder, f"expected {INDEX} beside {len(found)} safetensors files, found none")
    pickles = [name for name in names if matches(name, PICKLES)]
    if pickles:
        raise CheckpointError(
            f"{folder}: found no safetensors but {pickles[0]}, a pickle, which can run code when it is loaded; only "
            "safetensors are read; convert with transformers (from_pretrained, then save_pretrained) if you trust it"
        )
    raise CheckpointError(f"{folder}: expected {MODEL_WEIGHTS} or {INDEX}, found no safetensors; check the path")


def _read_index(folder: Path) -> Mapping[str, str]:
    path = folder / INDEX
    with failing(f"{path} cannot be read"), open_foreign(path) as file:
        content = file.read(MAX_HEADER_BYTES + 1)
    if len(content) > MAX_HEADER_BYTES:
        raise damaged(path, f"expected at most {MAX_HEADER_BYTES} bytes, found more")
    weight_map = parse_object(path, "index", content).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise damaged(path, "expected tensor names and their files under 'weight_map', found none")
    for name, file_name in weight_map.items():
        if not isinstance(file_name, str) or not _inside(file_name):
            raise damaged(path, f"tensor {name!r}: expected the name of a file in the folder, found {file_name!r}")
        if not file_name.endswith(".safetensors"):
            raise CheckpointError(f"{path}: tensor {name!r} is in {file_name!r}; only safetensors are read; convert it")
    names = sorted(set(weight_map.values()))
    with failing(f"a file that {path} lists cannot be read"):
        missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise damaged(path, f"expected {len(names)} files, {len(missing)} missing, the first is {missing[0]}")
    return weight_map


def _inside(name: str) -> bool:
    """Tell whether a name, as it is written, stays in the folder. A link in there may lead out: the Hub cache is links."""
    plain = str(PurePosixPath(name)) == name and not PureWindowsPath(name).anchor
    return plain and not name.startswith("/") and "\0" not in name and ".." not in re.split(r"[/\\]", name)


def _oddities(path: Path, weight_map: Mapping[str, str], tensors: Mapping[str, TensorEntry]) -> tuple[str, ...]:
    """Say where index and shards disagree: loaders read the files that an index names, and what these hold."""
    known = weight_map.keys() & tensors.keys()
    listed = (
        ("lists {} that no file holds", weight_map.keys() - tensors.keys()),
        ("leaves out {} that its files hold, which are loaded and edited as the others", tensors.keys() - known),
        (
            "looks for {} in a file that does not hold them",
            {name for name in known if tensors[name].shard != weight_map[name]},
        ),
    )
    return tuple(
        f"{path.name} {said.format(f'{len(names)} tensors')} (for one: {min(names)})" for said, names in listed if names
    )


def _cannot_list(error: OSError) -> None:
    with failing(f"{error.filename} cannot be listed"):
        raise error
