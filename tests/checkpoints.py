"""Small checkpoints for tests, written byte by byte so that any damage can be made on purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abliterate.checkpoints.shards import DTYPES

DTYPE_NAMES = {getattr(torch, name): key for key, (_, name) in DTYPES.items()}


def tensor_bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def header_of(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    key_order: Sequence[str] | None = None,
    padding: int = 0,
) -> bytes:
    """Return the JSON header for tensors that lie in the order of the mapping, with its keys in another order."""
    listed: dict[str, Any] = {}
    position = 0
    for name, tensor in tensors.items():
        end = position + tensor.numel() * tensor.itemsize
        entry = {"dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [position, end]}
        listed[name] = entry
        position = end
    fields: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    fields |= {name: listed[name] for name in key_order or listed}
    return json.dumps(fields).encode() + b" " * padding


def write_raw(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    size = len(header) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + header + data)
    return path


def write_file(path: Path, tensors: Mapping[str, Tensor], **header: Any) -> Path:
    return write_raw(path, header_of(tensors, **header), b"".join(map(tensor_bytes, tensors.values())))


def write_checkpoint(folder: Path, *shards: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write one shard as model.safetensors, more of them with an index; with a config and a tokenizer beside."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "small"}')
    (folder / "tokenizer.json").write_text("{}")
    if len(shards) == 1:
        write_file(folder / "model.safetensors", shards[0], metadata=metadata)
        return folder
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_file(folder / name, tensors, metadata=metadata)
        weight_map |= dict.fromkeys(tensors, name)
    write_index(folder, weight_map)
    return folder


def write_index(folder: Path, weight_map: Mapping[str, Any]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": dict(weight_map)}))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
