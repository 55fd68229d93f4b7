"""The header of a safetensors file: read as it is, or refused with what is wrong."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.shards import DTYPES
from abliterate.errors import CheckpointError
from fixtures.checkpoints import (
    GOOD,
    MEMORY,
    PIECES,
    SINGLE,
    A,
    B,
    error_of,
    header_of,
    tensor_bytes,
    write_file,
    write_raw,
)


def test_keys_in_any_order_and_padding_are_read(tmp_path: Path) -> None:
    tensors = {"empty": torch.empty(0, 3), **GOOD, "last": torch.empty(0)}
    write_file(tmp_path / SINGLE, tensors, key_order=["b", "last", "a", "empty"], padding=5)
    assert [entry.name for entry in Checkpoint.open(tmp_path).shards[0].tensors] == ["empty", "a", "b", "last"]


def entry(dtype: Any = "F32", shape: Any = (2, 3), offsets: Any = (0, 24)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


DAMAGED_HEADERS = {
    "unknown dtype": ({"a": entry("F12")}, 24, "tensor 'a': unknown dtype 'F12'; expected one of BOOL, U8"),
    "dtype no text": ({"a": entry(["F32"])}, 24, "tensor 'a': unknown dtype ['F32']"),
    "shape": ({"a": entry(shape=[2, 4])}, 24, "tensor 'a', F32 [2, 4]: expected 32 bytes, found data_offsets of 24"),
    "shape negative": ({"a": entry(shape=[-2, -3])}, 24, "tensor 'a': expected a shape of whole numbers"),
    "shape fraction": ({"a": entry(shape=[2.0, 3])}, 24, "tensor 'a': expected a shape of whole numbers"),
    "shape huge": ({"a": entry(shape=[0, 2**62, 9], offsets=[0, 0])}, 0, "a shape that memory can hold"),
    "shape bool": ({"a": entry(shape=[True, 6])}, 24, "tensor 'a': expected a shape of whole numbers"),
    "offsets one": ({"a": entry(offsets=[24])}, 24, "tensor 'a': expected data_offsets [begin, end], found [24]"),
    "offsets reversed": ({"a": entry(offsets=[24, 0])}, 24, "expected data_offsets [begin, end], found [24, 0]"),
    "offsets huge": ({"a": entry(offsets=[10**4000, 10**4000 + 24])}, 24, "a number of 4001 digits"),
    "no dtype": ({"a": {"shape": [2, 3], "data_offsets": [0, 24]}}, 24, "expected dtype, shape and data_offsets"),
    "no object": ({"a": 3}, 24, "tensor 'a': expected dtype, shape and data_offsets, found '3'"),
    "overlap": ({"a": entry(), "b": entry(offsets=[20, 44])}, 44, "tensor 'b' overlaps the one before: expected it at"),
    "same bytes": ({"a": entry(), "b": entry()}, 24, "tensor 'b' overlaps the one before"),
    "hole": ({"a": entry(), "b": entry(offsets=[28, 52])}, 52, "tensor 'b' leaves a hole before it: expected it at"),
    "hole first": ({"a": entry(offsets=[4, 28])}, 28, "tensor 'a' leaves a hole before it"),
    "metadata false": ({"__metadata__": False}, 0, "expected names and texts under '__metadata__'"),
    "metadata": ({"__metadata__": {"a": 1}}, 0, "expected names and texts under '__metadata__'"),
    "no tensors": ({"__metadata__": {}}, 0, "expected tensors, found none"),
}


@pytest.mark.parametrize(("fields", "size", "expected"), DAMAGED_HEADERS.values(), ids=DAMAGED_HEADERS)
def test_damaged_headers_name_tensor_expected_and_found(
    tmp_path: Path, fields: dict[str, Any], size: int, expected: str
) -> None:
    write_raw(tmp_path / SINGLE, json.dumps(fields).encode(), bytes(size))
    message = error_of(tmp_path)
    assert expected in message
    assert str(tmp_path / SINGLE) in message
    assert message.endswith(("download it again", "convert the checkpoint"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"{", "header: expected JSON in UTF-8, found Expecting property name"),
        (b"[]", "header: expected JSON that begins with '{', found b'['"),
        (b" {}", "header: expected JSON that begins with '{', found b' '"),
        (b"", "header: expected JSON that begins with '{', found b''"),
        (b'{"\xff": 1}', "header: expected JSON in UTF-8, found 'utf-8' codec can't decode"),
        (b'{"\\ud800": 1}', "header: expected JSON in UTF-8, found 'utf-8' codec can't encode"),
        (b'{"a":' * 200_000, "header: expected JSON in UTF-8, found maximum recursion depth exceeded"),
        (b'{"a": {}, "a": {}}', "header: 'a' is listed twice; expected it once"),
        (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "header: 'dtype' is listed twice"),
    ],
)
def test_headers_that_are_no_json(tmp_path: Path, header: bytes, expected: str) -> None:
    write_raw(tmp_path / SINGLE, header)
    assert expected in error_of(tmp_path)


def test_lengths_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / SINGLE
    path.write_bytes(b"1234567")
    assert "truncated: expected 8 bytes of header length, found 7; download it again" in error_of(tmp_path)
    write_raw(path, b"{}", length=3)
    assert "header length: expected at most 2 bytes, found 3; download it again" in error_of(tmp_path)
    write_raw(path, b"", length=2**64 - 1)
    assert "header length: expected at most 0 bytes, found 18446744073709551615" in error_of(tmp_path)
    with path.open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(200_000_000)  # sparse
    assert "header length: expected at most 100000000 bytes, found 100000001" in error_of(tmp_path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "found a Git LFS pointer; fetch it with 'git lfs pull'" in error_of(tmp_path)


def test_truncated_and_trailing(folder: Path) -> None:
    path = folder / SINGLE
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert f"truncated in tensor 'b': expected {len(content)} bytes, found {len(content) - 1}" in error_of(folder)
    path.write_bytes(content[:-9])
    assert "truncated in tensor 'a'" in error_of(folder)
    path.write_bytes(content + b"!!")
    assert f"2 trailing bytes: expected {len(content)} bytes, found {len(content) + 2}" in error_of(folder)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 4), (), (0,), (2, 0, 5)], ids=str)
def test_every_dtype_and_shape_reads_back(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    count = math.prod(shape) * DTYPES[dtype][0]
    raw = torch.randint(0, 2, (count,), dtype=torch.uint8)
    tensor = raw.view(getattr(torch, DTYPES[dtype][1])).reshape(shape)
    write_file(tmp_path / SINGLE, {"before": A, "x": tensor, "after": A})
    found = Checkpoint.open(tmp_path).read("x")
    assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
    assert tensor_bytes(found) == tensor_bytes(tensor)


def test_a_dtype_that_this_torch_lacks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(folder)
    monkeypatch.setitem(DTYPES, "BF16", (2, "bfloat99"))
    with pytest.raises(CheckpointError, match=r"tensor 'b' has dtype BF16, which torch .* install a newer torch"):
        checkpoint.read("b")


FUZZED = header_of({"a": A, "b": B, "e": torch.empty(0, 2)}, metadata={"format": "pt"})
FUZZED_FILE = len(FUZZED).to_bytes(8, "little") + FUZZED + tensor_bytes(A) + tensor_bytes(B)


@given(st.lists(st.tuples(st.integers(0, len(FUZZED) + 8), st.integers(0, 2), PIECES | st.binary(max_size=3))))
@settings(max_examples=300, deadline=None)
def test_a_mutated_header_opens_soundly_or_is_refused(mutations: list[tuple[int, int, bytes]]) -> None:
    content = FUZZED_FILE
    for position, removed, piece in mutations:
        content = content[:position] + piece + content[position + removed :]
    _open_or_refuse(content)


def test_every_mutation_of_one_byte_opens_soundly_or_is_refused() -> None:
    opened = 0
    for position in range(8 + len(FUZZED)):
        for byte in b'\x00 "0179,:[]{}\\-.aF\xff':
            opened += _open_or_refuse(FUZZED_FILE[:position] + bytes([byte]) + FUZZED_FILE[position + 1 :])
    assert opened > 20  # spaces, letters of names: not everything can be refused


def _open_or_refuse(content: bytes) -> bool:
    """Open a file with these bytes; what opens must hold together and be what the safetensors library reads."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        path = Path(name, SINGLE)
        path.write_bytes(content)
        try:
            checkpoint = Checkpoint.open(Path(name))
        except CheckpointError:
            return False
        assert sum(entry.nbytes for entry in checkpoint.tensors.values()) == 32
        with safe_open(path, "pt") as library:
            assert set(library.keys()) == set(checkpoint.tensors)
            assert (library.metadata() or {}) == checkpoint.shards[0].metadata
            for key in checkpoint.tensors:
                assert tensor_bytes(library.get_tensor(key)) == tensor_bytes(checkpoint.read(key))
        return True
