"""A copy of one shard in which some tensors went through a function; all other bytes do not pass through torch."""

from __future__ import annotations

import errno
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from abliterate.checkpoints.shards import DTYPES, Shard, TensorEntry, damaged, failing, read_numbers, read_tensor
from abliterate.errors import CheckpointError
from abliterate.parallel.threads import in_threads, one_at_a_time
from abliterate.progress import Advance
from abliterate.projection import Projection

Edit = Callable[[Tensor], Tensor]
"""What is done to a tensor. A `Projection` is computed block by block, anything else is given the whole tensor."""

BLOCK = 8 << 20

PIECE = 16 << 20
"""Bytes that one thread copies; enough that opening the files does not matter."""

WRITEBACK_SECONDS = 0.1

# What copy_file_range answers where a file system, or a pair of them, cannot do it.
NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


def copy_shard(path: Path, shard: Shard, target: Path, edit: Mapping[str, Edit], advance: Advance) -> None:
    """Write a copy of the file at `path` to `target`; what `checkpoint.write_shard` promises. On failure it is removed."""
    problem = f"{path} cannot be copied to {target}"
    with failing(problem):
        target.unlink(missing_ok=True)  # never written through: it might be a link to something else
    try:
        with failing(problem), target.open("xb", buffering=0) as file:
            size = path.stat().st_size
            if size != shard.size:
                raise damaged(path, f"changed since it was opened: expected {shard.size} bytes, found {size}")
            advance = one_at_a_time(advance)
            parts = [partial(_write_part, path, target, part, advance) for part in _parts(shard, edit)]
            with _early_writeback(file):
                in_threads(parts)
            os.fsync(file.fileno())
    except BaseException:
        target.unlink(missing_ok=True)  # a full disk gets its room back
        raise


@dataclass(frozen=True)
class _Part:
    """Bytes of a shard that one thread writes: a copy where there is no edit, else a span of an edited tensor."""

    start: int
    end: int
    entry: TensorEntry | None = None
    edit: Edit | None = None


def _parts(shard: Shard, edit: Mapping[str, Edit]) -> Iterator[_Part]:
    """Yield the parts of a file in their order."""
    position = 0
    for entry in shard.tensors:
        if entry.name not in edit:
            continue
        yield from _copies(position, entry.start)
        function = edit[entry.name]
        if isinstance(function, Projection):
            width = DTYPES[entry.dtype][0]
            for first, last in function.pieces(entry.shape).spans():
                yield _Part(entry.start + first * width, entry.start + last * width, entry, function)
        else:
            yield _Part(entry.start, entry.end, entry, function)
        position = entry.end
    yield from _copies(position, shard.size)


def _copies(start: int, end: int) -> Iterator[_Part]:
    yield from (_Part(first, min(first + PIECE, end)) for first in range(start, end, PIECE))


def _write_part(path: Path, target: Path, part: _Part, advance: Advance) -> None:
    with path.open("rb", buffering=0) as reading, target.open("r+b", buffering=0) as writing:
        reading.seek(part.start)
        writing.seek(part.start)
        if part.entry is None or part.edit is None:
            _copy(reading, writing, part.end - part.start, advance)
        elif isinstance(part.edit, Projection):
            _project(reading, writing, part, part.entry, part.edit, advance)
        else:
            result = _edited(path, part.entry, read_tensor(reading, part.entry), part.edit)
            _write_tensor(writing, result, advance)


def _project(
    reading: FileIO, writing: FileIO, part: _Part, entry: TensorEntry, edit: Projection, advance: Advance
) -> None:
    """Write a span of a tensor as the projection makes it, checked as `_edited` checks a whole one."""
    where, width = f"{reading.name}: tensor {entry.name!r}", DTYPES[entry.dtype][0]

    def load(first: int, last: int) -> Tensor:
        source = read_numbers(reading, entry, first, last)
        _check_source(where, source)
        return source

    begin, end = ((offset - entry.start) // width for offset in (part.start, part.end))
    for start, result in edit.pieces(entry.shape).project(load, begin, end, edit.strength):
        if (found := _not_finite(result)) is not None:
            finite = _isfinite(read_numbers(reading, entry, start, start + len(result)))
            _check_result(where, found, finite, result)
        _write_tensor(writing, result, advance)


@contextmanager
def _early_writeback(file: FileIO) -> Iterator[None]:
    """Send what is written to the disk while more is computed: at the end, little is left to wait for."""
    ended = threading.Event()

    def flush() -> None:
        while not ended.wait(WRITEBACK_SECONDS):
            try:
                os.fdatasync(file.fileno())
            except OSError:
                return  # the writing itself, or the sync at its end, meets the same error and says so

    if not hasattr(os, "fdatasync") or torch.get_num_threads() == 1:
        yield
        return
    thread = threading.Thread(target=flush)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _copy(reading: FileIO, writing: FileIO, count: int, advance: Advance) -> None:
    """Copy the next `count` bytes, inside the kernel where it can (and by reference where the file system can)."""
    in_kernel = hasattr(os, "copy_file_range")
    while count:
        copied = 0
        if in_kernel:
            try:
                copied = os.copy_file_range(reading.fileno(), writing.fileno(), min(BLOCK, count))
            except OSError as error:
                if error.errno not in NO_KERNEL_COPY:
                    raise
        if not copied:  # some file systems answer 0 instead of an error
            in_kernel = False
            block = reading.read(min(BLOCK, count))
            if not block:
                raise damaged(Path(str(reading.name)), f"truncated while it was read: expected {count} bytes more")
            _write_all(writing, memoryview(block))
            copied = len(block)
        count -= copied
        advance(copied)


def _write_all(writing: FileIO, block: memoryview) -> None:
    while len(block):
        block = block[writing.write(block) :]


def _write_tensor(writing: FileIO, tensor: Tensor, advance: Advance) -> None:
    view = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    for start in range(0, len(view), BLOCK):
        block = view[start : start + BLOCK]
        _write_all(writing, block)
        advance(len(block))


def _edited(path: Path, entry: TensorEntry, tensor: Tensor, function: Edit) -> Tensor:
    """Run the function and check what comes back: the same shape and dtype, and finite where the source was."""
    where = f"{path}: tensor {entry.name!r}"
    finite = None if _check_source(where, tensor) else _isfinite(tensor)  # before the function, which may work in place
    result = function(tensor)
    if tuple(result.shape) != entry.shape or result.dtype != entry.torch_dtype:
        raise CheckpointError(
            f"{where} was edited to {result.dtype} {list(result.shape)}; expected {entry.torch_dtype} "
            f"{list(entry.shape)}; an edit must keep both"
        )
    if (found := _not_finite(result)) is not None:
        _check_result(where, found, finite, result)
    return result


def _check_source(where: str, tensor: Tensor) -> bool:
    """Return whether all of it is finite: infinities may be meant, NaN is not. Raises CheckpointError."""
    found = _not_finite(tensor)
    if found == "NaN":
        raise CheckpointError(f"{where} holds NaN; expected finite weights; download it again or choose another model")
    return found is None


def _check_result(where: str, found: str, finite: Tensor | None, result: Tensor) -> None:
    """Raise CheckpointError when the result is not finite where the source, by its mask, was; None is everywhere."""
    if finite is None or bool((finite & ~_isfinite(result)).any()):
        raise CheckpointError(f"{where} holds {found} after the edit; expected finite weights; lower the strength")


def _not_finite(tensor: Tensor) -> str | None:
    """Return "NaN" or "infinity" when the tensor holds such; one pass, since minimum and maximum carry both."""
    if not tensor.is_floating_point() or not tensor.numel():
        return None
    flat = tensor.detach().reshape(-1)
    blocks = [flat[start : start + BLOCK] for start in range(0, len(flat), BLOCK)]
    # torch has no arithmetic for the one-byte types.
    extremes = [(block.float() if block.itemsize == 1 else block).aminmax() for block in blocks]
    values = [float(value) for pair in extremes for value in pair]
    if any(map(math.isnan, values)):
        return "NaN"
    return "infinity" if any(map(math.isinf, values)) else None


def _isfinite(tensor: Tensor) -> Tensor:
    return torch.isfinite(tensor.float() if tensor.itemsize == 1 else tensor)
