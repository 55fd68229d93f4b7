"""A shard copied byte by byte, its edited tensors in their places."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abliterate.checkpoints import shard_copy
from abliterate.checkpoints.checkpoint import Checkpoint, equal_bytes, write_shard
from abliterate.checkpoints.shard_copy import copy_shard
from abliterate.checkpoints.shards import DTYPES
from abliterate.errors import CheckpointError
from fixtures.checkpoints import (
    GOOD,
    MEMORY,
    SINGLE,
    A,
    snapshot,
    tensor_bytes,
    write_checkpoint,
)

FLOATS = ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"]


def same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def ignore(count: int) -> None:
    pass


@pytest.fixture(params=["kernel", "refused", "answers 0", "absent"])
def copying(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which copy_file_range may behave."""

    def refuse(*arguments: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if request.param == "absent":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    elif request.param == "refused":
        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    elif request.param == "answers 0":
        monkeypatch.setattr(os, "copy_file_range", lambda *arguments: 0, raising=False)


@pytest.mark.usefixtures("copying")
def test_a_copy_is_the_same_and_reports_its_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abliterate.checkpoints.shard_copy.BLOCK", 16)
    checkpoint = Checkpoint.open(folder)
    counts: list[int] = []
    for edit in ({}, {"a": same}, {"b": same}, {"a": same, "b": same}):
        write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", edit, counts.append)
        assert (tmp_path / "copy").read_bytes() == (folder / SINGLE).read_bytes()
    assert sum(counts) == 4 * checkpoint.total_bytes
    assert max(counts) <= 16


def test_an_edit_changes_its_tensor_only(folder: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    before = snapshot(folder)
    (tmp_path / "linked").write_text("precious")
    (tmp_path / "copy").symlink_to(tmp_path / "linked")
    write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", {"a": lambda a: (a.T + 1).T}, ignore)
    expected = bytearray(before[SINGLE])
    expected[checkpoint.entry("a").start : checkpoint.entry("a").end] = tensor_bytes(A + 1)
    assert (tmp_path / "copy").read_bytes() == expected
    assert snapshot(folder) == before
    assert (tmp_path / "linked").read_text() == "precious"


def test_edits_of_other_shards_are_left_to_them(sharded: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(sharded)
    for shard, name in zip(checkpoint.shards, "ab", strict=True):
        edit = dict.fromkeys(GOOD, torch.neg)
        write_shard(checkpoint, shard, tmp_path / "copy", edit, ignore)
        assert (tmp_path / "copy").read_bytes().endswith(tensor_bytes(-GOOD[name]))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda a: a.T, r"tensor 'a' was edited to torch.float32 \[3, 2\]; expected torch.float32 \[2, 3\]"),
        (lambda a: a.half(), r"edited to torch.float16 \[2, 3\]; expected torch.float32 .* an edit must keep both"),
        (lambda a: a / 0, "tensor 'a' holds NaN after the edit; expected finite weights; lower the strength"),
        (lambda a: (a + 1) / 0, "tensor 'a' holds infinity after the edit"),
        (lambda a: a.fill_(math.inf), "tensor 'a' holds infinity after the edit"),
    ],
)
def test_an_edit_must_return_its_like(folder: Path, tmp_path: Path, function: Any, expected: str) -> None:
    checkpoint = Checkpoint.open(folder)
    with pytest.raises(CheckpointError, match=expected):
        write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", {"a": function}, ignore)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_in_the_source_is_refused_where_it_would_be_edited(tmp_path: Path, dtype: str) -> None:
    bad = torch.tensor([1.0, math.nan, 2.0]).to(getattr(torch, DTYPES[dtype][1]))
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "source", {"bad": bad, "a": A}))
    with pytest.raises(CheckpointError, match="tensor 'bad' holds NaN; expected finite weights; download it again"):
        write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", {"bad": same}, ignore)
    write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", {"a": same}, ignore)


def test_infinity_in_the_source_may_stay_where_it_is(tmp_path: Path) -> None:
    mask = torch.tensor([-math.inf, 1.0])
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "source", {"mask": mask}))
    write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", {"mask": lambda mask: mask.mul_(2)}, ignore)
    with pytest.raises(CheckpointError, match="tensor 'mask' holds infinity after the edit"):
        write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", {"mask": lambda m: m.fill_(math.inf)}, ignore)


def test_targets_and_names_that_are_refused(folder: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    before = snapshot(folder)
    (tmp_path / "link").hardlink_to(folder / SINGLE)
    for target in (folder / SINGLE, tmp_path / "link"):
        with pytest.raises(CheckpointError, match="is a file of the checkpoint that is read; choose another --out"):
            write_shard(checkpoint, checkpoint.shards[0], target, {}, ignore)
    with pytest.raises(CheckpointError, match="'c' is not in the checkpoint"):
        write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", {"c": same}, ignore)
    with pytest.raises(CheckpointError, match=r"cannot be copied to .* .No such file or directory."):
        write_shard(checkpoint, checkpoint.shards[0], tmp_path / "no" / "copy", {}, ignore)
    os.truncate(folder / SINGLE, 100)
    with pytest.raises(CheckpointError, match=r"changed since it was opened: expected .* bytes, found 100"):
        write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", {}, ignore)
    os.truncate(folder / SINGLE, len(before[SINGLE]))


def test_a_source_that_shrinks_while_it_is_copied(folder: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(folder)

    def shrink(tensor: torch.Tensor) -> torch.Tensor:
        os.truncate(folder / SINGLE, checkpoint.entry("a").end)
        return tensor

    with pytest.raises(CheckpointError, match="truncated while it was read: expected 8 bytes more; download it again"):
        write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", {"a": shrink}, ignore)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("call", ["copy_file_range", "fsync"])
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "disk full: .* nothing was changed; free some space or choose another --out"),
        (errno.EIO, "cannot be copied to .*Input/output error.; check the path, its permissions and the disk"),
    ],
)
def test_a_disk_that_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, expected: str
) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    checkpoint = Checkpoint.open(folder)
    monkeypatch.setattr(os, call, fail, raising=False)
    with pytest.raises(CheckpointError, match=expected):
        write_shard(checkpoint, checkpoint.shards[0], tmp_path / "copy", {"a": same}, ignore)
    assert not (tmp_path / "copy").exists()


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda n: n != "__metadata__")


@st.composite
def layouts(draw: st.DrawFn) -> list[dict[str, torch.Tensor]]:
    """Draw one to three shards of tensors with random dtypes, shapes and finite contents."""
    names = draw(st.lists(NAMES, unique=True, min_size=3, max_size=9))
    count = draw(st.integers(1, 3))
    shards: list[dict[str, torch.Tensor]] = [{} for _ in range(count)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    for number, name in enumerate(names):
        dtype = getattr(torch, DTYPES[draw(st.sampled_from([*FLOATS, "I64", "U8", "BOOL"]))][1])
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
        values = torch.randint(0, 9, shape, generator=generator).to(dtype)
        shards[number % count][name] = values
    return shards


@given(layouts(), st.data())
@settings(max_examples=40, deadline=None)
def test_copies_are_equal_but_for_what_was_edited(shards: list[dict[str, torch.Tensor]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        source, target = Path(name, "source"), Path(name, "target")
        write_checkpoint(source, *shards, metadata=data.draw(st.none() | st.dictionaries(NAMES, NAMES, max_size=2)))
        checkpoint = Checkpoint.open(source)
        chosen = data.draw(st.sets(st.sampled_from(sorted(checkpoint.tensors))))
        assert {key for shard in shards for key in shard} == set(checkpoint.tensors)

        for function in (same, lambda tensor: tensor.zero_()):
            target.mkdir(exist_ok=True)
            for path in checkpoint.files():
                (target / path).write_bytes((source / path).read_bytes())
            for shard in checkpoint.shards:
                write_shard(checkpoint, shard, target / shard.name, dict.fromkeys(chosen, function), ignore)
            copy = Checkpoint.open(target)
            assert copy.shards == checkpoint.shards
            for key, tensor in checkpoint.tensors.items():
                zeroed = key in chosen and function is not same
                expected = bytes(tensor.nbytes) if zeroed else tensor_bytes(checkpoint.read(key))
                assert tensor_bytes(copy.read(key)) == expected
                assert equal_bytes(checkpoint, copy, key) == (tensor_bytes(checkpoint.read(key)) == expected)


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_pieces_of_any_size_make_the_same_file(folder: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(shard_copy, "PIECE", piece)
    source, target = folder / SINGLE, folder / "copy.safetensors"
    (shard,) = Checkpoint.open(folder).shards
    counted: list[int] = []
    copy_shard(source, shard, target, {"a": lambda tensor: tensor}, counted.append)
    assert target.read_bytes() == source.read_bytes()
    assert sum(counted) == shard.size


def test_a_link_is_replaced_and_what_it_leads_to_stays(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    target = folder / "copy.safetensors"
    target.symlink_to(tmp_path / "precious")
    (shard,) = Checkpoint.open(folder).shards
    copy_shard(folder / SINGLE, shard, target, {}, ignore)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not target.is_symlink()
