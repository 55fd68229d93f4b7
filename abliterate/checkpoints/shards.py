"""The safetensors format: one file's header, checked, and one tensor's bytes.

A file is 8 bytes of header length (little endian), a JSON header, and the tensors' bytes without holes.
The header is parsed here and not by the safetensors library because an edit needs the byte offsets,
and because every damage has to be named: file, tensor, expected, found, way out.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abliterate.errors import CheckpointError
from abliterate.storage.foreign_files import open_foreign, whole_number

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself

# fmt: off
DTYPES: Mapping[str, tuple[int, str]] = {
    "BOOL": (1, "bool"), "U8": (1, "uint8"), "I8": (1, "int8"), "F8_E8M0": (1, "float8_e8m0fnu"),
    "F8_E4M3": (1, "float8_e4m3fn"), "F8_E4M3FNUZ": (1, "float8_e4m3fnuz"),
    "F8_E5M2": (1, "float8_e5m2"), "F8_E5M2FNUZ": (1, "float8_e5m2fnuz"),
    "U16": (2, "uint16"), "I16": (2, "int16"), "F16": (2, "float16"), "BF16": (2, "bfloat16"),
    "U32": (4, "uint32"), "I32": (4, "int32"), "F32": (4, "float32"),
    "U64": (8, "uint64"), "I64": (8, "int64"), "F64": (8, "float64"), "C64": (8, "complex64"),
}
# fmt: on
"""Name in the file -> bytes per element, name in torch (a name: the older torch versions lack the youngest types)."""


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: bytes `start` to `end` of the file `shard`."""

    name: str
    shard: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self.end - self.start

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype in torch. Raises CheckpointError when the installed torch does not have it."""
        found = getattr(torch, DTYPES[self.dtype][1], None)
        if not isinstance(found, torch.dtype):
            raise CheckpointError(
                f"{self.shard}: tensor {self.name!r} has dtype {self.dtype}, which torch {torch.__version__} "
                "does not have; install a newer torch"
            )
        return found


@dataclass(frozen=True)
class Shard:
    """One safetensors file; `header_bytes` is the offset at which the data begins, `tensors` are in file order."""

    name: str
    size: int
    header_bytes: int
    metadata: Mapping[str, str] = field(hash=False)
    tensors: tuple[TensorEntry, ...]


def read_shard(folder: Path, name: str) -> Shard:
    """Read and check the header of `folder/name`. Raises CheckpointError."""
    path = folder / name
    with failing(f"{path} cannot be read"), open_foreign(path) as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        if len(prefix) < 8:
            raise damaged(path, f"truncated: expected 8 bytes of header length, found {len(prefix)}")
        if prefix == b"version ":
            raise CheckpointError(f"{path}: expected tensors, found a Git LFS pointer; fetch it with 'git lfs pull'")
        length, most = int.from_bytes(prefix, "little"), min(MAX_HEADER_BYTES, size - 8)
        if length > most:
            raise damaged(path, f"header length: expected at most {most} bytes, found {length}")
        header = file.read(length)
    if not header.startswith(b"{"):
        raise damaged(path, f"header: expected JSON that begins with '{{', found {header[:1]!r}")
    listed = parse_object(path, "header", header)
    metadata = listed.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata  # null is read as none by safetensors too, other emptiness is not
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise damaged(path, "header: expected names and texts under '__metadata__', found something else")
    entries = [_entry(path, name, key, value, 8 + length) for key, value in listed.items()]
    # Writers may list tensors in any order; empty ones go before the one that begins at the same offset.
    tensors = tuple(sorted(entries, key=lambda entry: (entry.start, entry.end)))
    _check_cover(path, tensors, 8 + length, size)
    return Shard(name, size, 8 + length, metadata, tensors)


def parse_object(path: Path, part: str, content: bytes) -> dict[str, Any]:
    """Return the JSON object in `content`, which has no name twice. Raises CheckpointError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Encoding refuses half of a surrogate pair, which no other reader of the file would take.
        "".join(key for key, _ in pairs).encode()
        fields = dict(pairs)
        if len(fields) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise damaged(path, f"{part}: {twice!r} is listed twice; expected it once")
        return fields

    try:
        parsed = json.loads(content.decode("utf-8"), object_pairs_hook=unique, parse_int=whole_number)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"{part}: expected JSON in UTF-8, found {error}") from error
    if not isinstance(parsed, dict):
        raise damaged(path, f"{part}: expected a JSON object, found {type(parsed).__name__}")
    return parsed


def _entry(path: Path, shard: str, name: str, listed: Any, begin: int) -> TensorEntry:
    where = f"tensor {name!r}"
    if not isinstance(listed, dict) or not {"dtype", "shape", "data_offsets"} <= listed.keys():
        raise damaged(path, f"{where}: expected dtype, shape and data_offsets, found {str(listed)[:80]!r}")
    dtype, shape, offsets = listed["dtype"], listed["shape"], listed["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(
            f"{path}: {where}: unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}; convert the checkpoint"
        )
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
            raise damaged(path, f"{where}: expected a {what} of whole numbers, found {str(numbers)[:80]}")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise damaged(path, f"{where}: expected data_offsets [begin, end], found {str(offsets)[:80]}")
    width = DTYPES[dtype][0]
    if math.prod(filter(None, shape)) * width >= 2**63:  # an empty tensor may still have dimensions no one can hold
        raise damaged(path, f"{where}: expected a shape that memory can hold, found {str(shape)[:80]}")
    expected, found = math.prod(shape) * width, offsets[1] - offsets[0]
    if expected != found:
        where += f", {dtype} {str(shape)[:80]}"
        raise damaged(path, f"{where}: expected {expected} bytes, found data_offsets of {found}")
    return TensorEntry(name, shard, dtype, tuple(shape), begin + offsets[0], begin + offsets[1])


def _check_cover(path: Path, tensors: tuple[TensorEntry, ...], begin: int, size: int) -> None:
    """Hold that the tensors follow one another without overlap or hole, up to the end of the file."""
    position = begin
    for entry in tensors:
        if entry.start != position:
            what = "overlaps the one before" if entry.start < position else "leaves a hole before it"
            raise damaged(path, f"tensor {entry.name!r} {what}: expected it at byte {position}, found {entry.start}")
        position = entry.end
    if size < position:
        cut = next(entry.name for entry in tensors if entry.end > size)
        raise damaged(path, f"truncated in tensor {cut!r}: expected {position} bytes, found {size}")
    if size > position:
        raise damaged(path, f"{size - position} trailing bytes: expected {position} bytes, found {size}")


def read_tensor(file: FileIO, entry: TensorEntry) -> Tensor:
    """Read the bytes of one tensor; the caller owns the result."""
    dtype = entry.torch_dtype
    return read_bytes(file, entry, entry.start, entry.end).view(dtype).reshape(entry.shape)


def read_numbers(file: FileIO, entry: TensorEntry, first: int, last: int) -> Tensor:
    """Read the numbers of one tensor from the `first` up to the `last`, flat; the caller owns the result."""
    width = DTYPES[entry.dtype][0]
    return read_bytes(file, entry, entry.start + first * width, entry.start + last * width).view(entry.torch_dtype)


def read_bytes(file: FileIO, entry: TensorEntry, start: int, end: int) -> Tensor:
    """Read the bytes from `start` to `end` of the file, which belong to `entry`."""
    data = torch.empty(end - start, dtype=torch.uint8)
    view = data.numpy().data
    file.seek(start)
    filled = 0
    while filled < len(view):  # one call reads at most 2 GiB
        count = file.readinto(view[filled:])
        if not count:
            raise cut_short(Path(str(file.name)), entry, entry.nbytes, start + filled - entry.start)
        filled += count
    return data


def damaged(path: Path, problem: str) -> CheckpointError:
    """Make the error for a file that is not what it should be."""
    return CheckpointError(f"{path}: {problem}; download it again")


def cut_short(path: Path, entry: TensorEntry, expected: int, found: int) -> CheckpointError:
    """Make the error for a tensor that ends before its time."""
    return damaged(path, f"truncated in tensor {entry.name!r}: expected {expected} bytes, found {found}")


@contextmanager
def failing(problem: str) -> Iterator[None]:
    """Turn what the system says into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CheckpointError(
                f"disk full: {problem}; nothing was changed; free some space or choose another --out"
            ) from error
        reason = error.strerror or str(error)
        raise CheckpointError(f"{problem} ({reason}); check the path, its permissions and the disk") from error
