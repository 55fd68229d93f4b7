"""A folder of safetensors: opened, read, compared, hashed."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abliterate.checkpoints import checkpoint as module
from abliterate.checkpoints.checkpoint import Checkpoint, content_hash, equal_bytes
from abliterate.errors import CheckpointError
from fixtures.checkpoints import (
    GOOD,
    INDEX,
    MEMORY,
    PIECES,
    SINGLE,
    A,
    B,
    error_of,
    header_of,
    snapshot,
    tensor_bytes,
    write_checkpoint,
    write_file,
    write_index,
    write_raw,
)

# --- opening ---------------------------------------------------------------------------------------------------------


def test_a_single_file_opens(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    (shard,) = checkpoint.shards
    assert checkpoint.index is None
    assert (shard.name, shard.size, shard.metadata) == (SINGLE, (folder / SINGLE).stat().st_size, {"format": "pt"})
    assert [entry.name for entry in shard.tensors] == ["a", "b"] == list(checkpoint.tensors)
    entry = checkpoint.entry("b")
    assert (entry.dtype, entry.shape, entry.nbytes, entry.torch_dtype) == ("BF16", (4,), 8, torch.bfloat16)
    assert (shard.header_bytes, entry.end) == (checkpoint.entry("a").start, shard.size)
    assert checkpoint.total_bytes == shard.size


def test_shards_open_through_their_index(sharded: Path) -> None:
    checkpoint = Checkpoint.open(sharded)
    assert checkpoint.index == INDEX
    assert [shard.name for shard in checkpoint.shards] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert torch.equal(checkpoint.read("a"), A)
    assert torch.equal(checkpoint.read("b"), B)


def test_a_single_file_of_another_name_opens(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "weights.safetensors")
    assert Checkpoint.open(folder).shards[0].name == "weights.safetensors"


def test_links_in_a_snapshot_are_followed(sharded: Path, tmp_path: Path) -> None:
    snapshot_folder, blobs = tmp_path / "hub" / "snapshots" / "abc", tmp_path / "hub" / "blobs"
    snapshot_folder.mkdir(parents=True)
    sharded.rename(blobs)
    for path in blobs.iterdir():
        (snapshot_folder / path.name).symlink_to(path)
    checkpoint = Checkpoint.open(snapshot_folder)
    assert torch.equal(checkpoint.read("a"), A)
    assert Path("tokenizer.json") in checkpoint.files()


def test_folders_without_safetensors(tmp_path: Path) -> None:
    assert "no such folder" in error_of(tmp_path / "nowhere")
    assert "found no safetensors; check the path" in error_of(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    message = error_of(tmp_path)
    assert "pytorch_model.bin, a pickle" in message
    assert "only safetensors are read; convert with transformers" in message
    write_file(tmp_path / "one.safetensors", GOOD)
    write_file(tmp_path / "two.safetensors", GOOD)
    assert "expected model.safetensors.index.json beside 2 safetensors files" in error_of(tmp_path)


def test_a_dangling_link_is_an_error(tmp_path: Path) -> None:
    (tmp_path / SINGLE).symlink_to(tmp_path / "gone")
    assert "model.safetensors cannot be read (No such file or directory)" in error_of(tmp_path)


def test_index_and_shards_must_agree(sharded: Path) -> None:
    first, second = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    write_file(sharded / first, GOOD)
    write_index(sharded, {"a": first, "b": second})
    assert f"{second}: tensor 'b' is in {first} too, and which of both a model gets depends on who" in error_of(sharded)
    (sharded / second).unlink()
    assert f"expected 2 files, 1 missing, the first is {second}; download it again" in error_of(sharded)


def test_what_plain_loaders_read_all_the_same_is_said(sharded: Path) -> None:
    """Entries that no file holds, tensors that the index leaves out or looks for elsewhere: the same tensors are loaded."""
    first, second = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    whole = Checkpoint.open(sharded)
    assert whole.oddities == ()
    files = {name: entry.shard for name, entry in whole.tensors.items()}
    for weight_map, said in (
        ({**files, "mtp.fc.weight": second}, "lists 1 tensors that no file holds (for one: mtp.fc.weight)"),
        ({"a": first, "ghost": second}, "leaves out 1 tensors that its files hold, which are loaded"),
        ({"a": second, "b": first}, "looks for 2 tensors in a file that does not hold them (for one: a)"),
    ):
        write_index(sharded, weight_map)
        opened = Checkpoint.open(sharded)
        assert opened == whole
        assert any(said in oddity for oddity in opened.oddities)


def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    write_file(tmp_path / "adapter_model.safetensors", GOOD)
    assert "is a PEFT adapter, which has no weights of the model itself; give the model that it stands on" in error_of(
        tmp_path
    )
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "consolidated.safetensors")
    assert "found consolidated.safetensors alone, the weights in their maker's own format" in error_of(tmp_path)


def test_metadata_that_is_null_is_none(folder: Path) -> None:
    header = json.loads(header_of(GOOD))
    write_raw(
        folder / SINGLE,
        json.dumps({"__metadata__": None, **header}).encode(),
        b"".join(map(tensor_bytes, GOOD.values())),
    )
    assert Checkpoint.open(folder).shards[0].metadata == {}


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../x.safetensors", "a/../../x.safetensors", "..\\x.safetensors", "C:\\x.safetensors"),
        *("C:x.safetensors", "\\x.safetensors", "./x.safetensors", "", "x\0.safetensors", "a//x.safetensors", 3, None),
    ],
)
def test_an_index_cannot_point_outside(sharded: Path, name: object) -> None:
    write_index(sharded, {"a": name})
    expected = f"tensor 'a': expected the name of a file in the folder, found {name!r}; download it again"
    assert expected in error_of(sharded)


def test_an_index_that_is_none(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_index(sharded, {"a": "pytorch_model.bin"})
    assert "tensor 'a' is in 'pytorch_model.bin'; only safetensors are read" in error_of(sharded)
    write_index(sharded, {"a": "x" * 5000 + ".safetensors"})
    assert "File name too long" in error_of(sharded)
    for content, expected in (
        ("{}", "expected tensor names and their files under 'weight_map', found none"),
        ('{"weight_map": {}}', "found none"),
        ('{"weight_map": {"a": "x", "a": "y"}}', "index: 'a' is listed twice"),
        ("[1]", "index: expected a JSON object, found list"),
        ("no", "index: expected JSON in UTF-8"),
    ):
        (sharded / INDEX).write_text(content)
        assert expected in error_of(sharded)
    monkeypatch.setattr(module, "MAX_HEADER_BYTES", 1)
    assert "expected at most 1 bytes, found more" in error_of(sharded)


def test_a_tensor_that_was_read_is_the_callers(folder: Path) -> None:
    before = snapshot(folder)
    checkpoint = Checkpoint.open(folder)
    checkpoint.read("a").zero_()
    assert torch.equal(checkpoint.read("a"), A)
    assert snapshot(folder) == before


def test_reading_what_is_not_there(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    with pytest.raises(CheckpointError, match="tensor 'c' is not in the checkpoint; check the name"):
        checkpoint.read("c")
    os.truncate(folder / SINGLE, checkpoint.entry("b").start + 3)
    with pytest.raises(CheckpointError, match="truncated in tensor 'b': expected 8 bytes, found 3; download it again"):
        checkpoint.read("b")
    with pytest.raises(CheckpointError, match="truncated in tensor 'b': expected 8 bytes, found 3"):
        equal_bytes(checkpoint, checkpoint, "b")
    (folder / SINGLE).unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read .No such file or directory.; check the path"):
        checkpoint.read("b")


def test_equal_bytes_sees_every_difference(
    folder: Path, tmp_path: Path, sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 5)
    one, other = Checkpoint.open(folder), Checkpoint.open(sharded)
    assert all(equal_bytes(one, other, name) for name in GOOD)
    for position in range(6):
        changed = A.flatten().index_fill(0, torch.tensor(position), -1.0).reshape(2, 3)
        third = Checkpoint.open(write_checkpoint(tmp_path / "third", {"a": changed, "b": B.float()}))
        assert not equal_bytes(one, third, "a")
        assert not equal_bytes(one, third, "b")
    reshaped = Checkpoint.open(write_checkpoint(tmp_path / "third", {"a": A.T}))
    assert not equal_bytes(one, reshaped, "a")
    with pytest.raises(CheckpointError, match="'b' is not in the checkpoint"):
        equal_bytes(one, reshaped, "b")


# --- files, hashes ---------------------------------------------------------------------------------------------------


def test_what_travels_and_what_stays(sharded: Path, tmp_path: Path) -> None:
    travels = ["LICENSE", "chat_template.jinja", "modeling_small.py", "docs/README.md", "processor/config.json"]
    stays = [
        "README.md",
        "abliterate.json",
        "healed.json",
        "hardened.json",
        ".gitattributes",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ]
    stays += ["consolidated.safetensors", "model.Q4_0.GGUF"]
    travels += ["sub/training_args.bin", "spk_dict.pt"]
    folders = ["original/consolidated.00.pth", ".git/config", "onnx/model.json", "metal/tokenizer.json"]
    for name in travels + stays + folders:
        (sharded / name).parent.mkdir(exist_ok=True)
        (sharded / name).touch()
    (sharded / "linked").symlink_to(tmp_path)
    checkpoint = Checkpoint.open(sharded)
    expected = sorted(map(Path, [*travels, "config.json", "tokenizer.json", INDEX]))
    assert checkpoint.files() == expected
    unsaid = {"README.md", "abliterate.json", "healed.json", "hardened.json", ".gitattributes"}
    assert checkpoint.left_behind() == sorted(
        map(Path, [*(set(stays) - unsaid), "original", "onnx", "metal", "linked"])
    )


def test_weights_outside_of_the_index_travel_unless_they_are_a_copy(sharded: Path) -> None:
    """Adapters, heads and dense layers of their own folders belong to the model; its weights once more do not."""
    own = Checkpoint.open(sharded)
    name, entry = next(iter(own.tensors.items()))
    others = ["speech-lora/adapter_model.safetensors", "mtp.safetensors", "2_Dense/model.safetensors"]
    for path in others:
        (sharded / path).parent.mkdir(exist_ok=True)
        write_file(sharded / path, {"own": torch.ones(4), name: torch.ones(*entry.shape, 2)})
    copies = ["fp16/model.safetensors", "again.safetensors"]
    for path in copies:
        (sharded / path).parent.mkdir(exist_ok=True)
        write_file(sharded / path, {name: torch.zeros(entry.shape)})
    (sharded / "table.safetensors").write_bytes(b"no header")
    checkpoint = Checkpoint.open(sharded)
    assert {*map(Path, others), Path("table.safetensors")} <= set(checkpoint.files())
    assert checkpoint.left_behind() == sorted(map(Path, copies))


def test_an_index_that_is_not_used_stays(folder: Path) -> None:
    write_index(folder, {"a": SINGLE})
    assert Path(INDEX) in Checkpoint.open(folder).left_behind()


def test_a_file_that_is_a_link_to_nothing(folder: Path) -> None:
    (folder / "merges.txt").symlink_to("gone")
    with pytest.raises(CheckpointError, match=r"merges.txt is a link to nothing; download the checkpoint again"):
        Checkpoint.open(folder).files()


def test_content_hash_is_sha256_and_reports(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    counts: list[int] = []
    titles: list[tuple[str, int, str]] = []

    @contextmanager
    def step(title: str, total: int, unit: str) -> Iterator[Any]:
        titles.append((title, total, unit))
        yield counts.append

    path = folder / SINGLE
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert content_hash(path) == expected == content_hash(path, SimpleNamespace(step=step))
    assert titles == [("hashing model.safetensors", path.stat().st_size, "B")]
    assert sum(counts) == path.stat().st_size
    with pytest.raises(CheckpointError, match="nowhere cannot be read"):
        content_hash(folder / "nowhere")


def test_fingerprint_changes_with_what_it_covers(folder: Path) -> None:
    def fingerprint() -> str:
        return Checkpoint.open(folder).fingerprint()

    path = folder / SINGLE
    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    times = path.stat()
    write_file(path, {"a": A, "b": -B}, metadata={"format": "pt"})
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # only the data differ
    seen.append(fingerprint())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    seen.append(fingerprint())
    (folder / "config.json").write_text("{}")
    seen.append(fingerprint())
    (folder / "config.json").unlink()
    seen.append(fingerprint())
    path.rename(folder / "other.safetensors")
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen)


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3), PIECES | st.binary(max_size=3)), min_size=1))
@settings(max_examples=150, deadline=None)
def test_a_mutated_index_opens_to_the_same_or_is_refused(mutations: list[tuple[int, int, bytes]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = write_checkpoint(Path(name), {"a": A}, {"b": B})
        original = Checkpoint.open(folder)
        content = (folder / INDEX).read_bytes()
        for position, removed, piece in mutations:
            content = content[:position] + piece + content[position + removed :]
        (folder / INDEX).write_bytes(content)
        try:
            opened = Checkpoint.open(folder)
        except CheckpointError:
            return
        assert opened == original
