"""A copy of one shard in which some tensors went through a function; all other bytes do not pass through torch."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from abliterate.errors import CheckpointError
from abliterate.progress import Advance
from abliterate.shards import Shard, TensorEntry, damaged, failing, read_tensor

BLOCK = 8 << 20

# What copy_file_range answers where a file system, or a pair of them, cannot do it.
NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


def copy_shard(
    path: Path, shard: Shard, target: Path, edit: Mapping[str, Callable[[Tensor], Tensor]], advance: Advance
) -> None:
    """Write a copy of the file at `path` to `target`; what `checkpoint.write_shard` promises. On failure it is removed."""
    problem = f"{path} cannot be copied to {target}"
    with failing(problem):
        target.unlink(missing_ok=True)  # never written through: it might be a link to something else
    try:
        with failing(problem), path.open("rb", buffering=0) as reading, target.open("xb", buffering=0) as writing:
            size = os.fstat(reading.fileno()).st_size
            if size != shard.size:
                raise damaged(path, f"changed since it was opened: expected {shard.size} bytes, found {size}")
            position = 0
            for entry in shard.tensors:
                if entry.name in edit:
                    _copy(reading, writing, entry.start - position, advance)
                    result = _edited(path, entry, read_tensor(reading, entry), edit[entry.name])
                    _write_tensor(writing, result, advance)
                    position = entry.end
            _copy(reading, writing, size - position, advance)
            os.fsync(writing.fileno())
    except BaseException:
        target.unlink(missing_ok=True)  # a full disk gets its room back
        raise


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


def _edited(path: Path, entry: TensorEntry, tensor: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Run the function and check what comes back: the same shape and dtype, and finite where the source was."""
    where = f"{path}: tensor {entry.name!r}"
    found = _not_finite(tensor)
    if found == "NaN":
        raise CheckpointError(f"{where} holds NaN; expected finite weights; download it again or choose another model")
    finite = None if found is None else _isfinite(tensor)  # before the function, which may work in place
    result = function(tensor)
    if tuple(result.shape) != entry.shape or result.dtype != entry.torch_dtype:
        raise CheckpointError(
            f"{where} was edited to {result.dtype} {list(result.shape)}; expected {entry.torch_dtype} "
            f"{list(entry.shape)}; an edit must keep both"
        )
    found = _not_finite(result)
    if found is not None and (finite is None or bool((finite & ~_isfinite(result)).any())):
        raise CheckpointError(f"{where} holds {found} after the edit; expected finite weights; lower the strength")
    return result


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
