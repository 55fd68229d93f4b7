"""The header of a safetensors file, which decides which bytes are which tensor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from abliterate.checkpoints.shards import DTYPES, Shard, read_shard, read_tensor
from abliterate.errors import CheckpointError
from fixtures.checkpoints import header_of, tensor_bytes
from fixtures.mutations import fuzz, mutated_bytes, mutated_json, outcome, scratch

NAME = "model.safetensors"

TENSORS = {
    "model.embed_tokens.weight": torch.arange(24, dtype=torch.float32).reshape(4, 6),
    "model.layers.0.mlp.down_proj.weight": torch.arange(12, dtype=torch.bfloat16).reshape(3, 4),
    "model.norm.weight": torch.arange(6, dtype=torch.float16),
    "scale": torch.tensor(3, dtype=torch.int64),
    "empty": torch.zeros(0, 5, dtype=torch.int8),
}
HEADER = header_of(TENSORS, metadata={"format": "pt"})
DATA = b"".join(map(tensor_bytes, TENSORS.values()))


def whole(header: bytes, data: bytes = DATA) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


@fuzz
@given(
    st.one_of(
        mutated_json(json.loads(HEADER)).map(whole),
        mutated_bytes(HEADER).map(whole),
        mutated_bytes(whole(HEADER)),
        mutated_bytes(DATA).map(lambda data: whole(HEADER, data)),
    )
)
def test_any_header_is_refused_or_gives_the_tensors_that_safetensors_gives(content: bytes) -> None:
    with scratch() as folder:
        (folder / NAME).write_bytes(content)
        shard = outcome(lambda: read_shard(folder, NAME))
        if shard is not None:
            hold_equal(folder / NAME, shard, content)


def hold_equal(path: Path, shard: Shard, content: bytes) -> None:
    """Hold every tensor of a file that is taken against those that the format's own library reads."""
    try:
        expected = dict(safetensors.deserialize(content))
    except SafetensorError as error:
        raise AssertionError(f"taken, and refused by safetensors: {error}") from error
    assert {entry.name for entry in shard.tensors} == expected.keys()
    with path.open("rb", buffering=0) as file:
        for entry in shard.tensors:
            found = expected[entry.name]
            assert (entry.dtype, list(entry.shape)) == (found["dtype"], found["shape"])
            tensor = read_tensor(file, entry)
            assert (tensor.dtype, tuple(tensor.shape)) == (getattr(torch, DTYPES[entry.dtype][1]), entry.shape)
            assert tensor_bytes(tensor) == bytes(found["data"])


def test_the_file_that_all_start_from_is_taken(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(whole(HEADER))
    shard = read_shard(tmp_path, NAME)
    assert [entry.name for entry in shard.tensors if entry.nbytes] == [name for name in TENSORS if name != "empty"]
    hold_equal(tmp_path / NAME, shard, whole(HEADER))
    (tmp_path / NAME).write_bytes(whole(HEADER)[:-1])
    with pytest.raises(CheckpointError, match="truncated in tensor"):
        read_shard(tmp_path, NAME)
