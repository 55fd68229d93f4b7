"""A shard in which tensors change name, dtype or shape, or go away: its header is written anew.

All other tensors keep their bytes. Tensors lie as the safetensors library lays them out, those of the widest
dtype first, since it cannot read one that does not begin at a multiple of its width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from abliterate.checkpoints.shards import DTYPES, Shard, TensorEntry, cut_short, failing
from abliterate.errors import CheckpointError
from abliterate.progress import Advance

BLOCK = 8 << 20


@dataclass(frozen=True)
class Replacement:
    """What takes the place of a tensor; `make` computes it, in that dtype and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], Tensor]


def rewrite_shard(
    path: Path, shard: Shard, target: Path, replace: Mapping[str, Replacement | None], advance: Advance
) -> None:
    """Write `shard`, which lies at `path`, to `target`; tensors in `replace` are exchanged, or left out where it says None.

    On failure the target is removed. Raises CheckpointError (file system, or a tensor that is not finite or not as said).
    """
    kept: list[TensorEntry | Replacement] = []
    for entry in shard.tensors:
        one = replace.get(entry.name, entry)
        if one is not None:
            kept.append(one)
    kept.sort(key=lambda one: -DTYPES[one.dtype][0])
    problem = f"{path} cannot be copied to {target}"
    with failing(problem):
        target.unlink(missing_ok=True)
    try:
        with failing(problem), path.open("rb", buffering=0) as reading, target.open("xb", buffering=0) as writing:
            _write(writing, memoryview(_header(kept, shard.metadata)))
            for one in kept:
                if isinstance(one, Replacement):
                    _write(writing, _content(path, one), advance)
                else:
                    _copy(path, reading, writing, one, advance)
            os.fsync(writing.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _header(kept: list[TensorEntry | Replacement], metadata: Mapping[str, str]) -> bytes:
    listed: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for one in kept:
        end = position + DTYPES[one.dtype][0] * torch.Size(one.shape).numel()
        listed[one.name] = {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(listed, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _content(path: Path, one: Replacement) -> memoryview:
    tensor = one.make()
    where = f"{path}: tensor {one.name!r}"
    if tensor.dtype != getattr(torch, DTYPES[one.dtype][1]) or tuple(tensor.shape) != one.shape:
        raise CheckpointError(
            f"{where} was edited to {tensor.dtype} {list(tensor.shape)}; expected {one.dtype} {list(one.shape)}"
        )
    # Types of one byte have no arithmetic, and no infinity that could arise.
    if tensor.is_floating_point() and tensor.itemsize > 1 and not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{where} holds NaN or infinity after the edit; expected finite weights")
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _copy(path: Path, reading: FileIO, writing: FileIO, entry: TensorEntry, advance: Advance) -> None:
    reading.seek(entry.start)
    left = entry.nbytes
    while left:
        block = reading.read(min(BLOCK, left))
        if not block:
            raise cut_short(path, entry, entry.nbytes, entry.nbytes - left)
        _write(writing, memoryview(block), advance)
        left -= len(block)


def _write(writing: FileIO, content: memoryview, advance: Advance = lambda count: None) -> None:
    while len(content):
        count = writing.write(content[:BLOCK])
        advance(count)
        content = content[count:]
