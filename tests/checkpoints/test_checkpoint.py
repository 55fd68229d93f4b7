from __future__ import annotations

import errno
import hashlib
import json
import math
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
from safetensors import safe_open

from abliterate.checkpoints import checkpoint as module
from abliterate.checkpoints.checkpoint import Checkpoint, content_hash, equal_bytes, write_shard
from abliterate.checkpoints.shards import DTYPES
from abliterate.errors import CheckpointError
from fixtures.checkpoints import header_of, snapshot, tensor_bytes, write_checkpoint, write_file, write_index, write_raw

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
A, B = torch.arange(6.0).reshape(2, 3), torch.ones(4, dtype=torch.bfloat16)
GOOD = {"a": A, "b": B}
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # syncing costs nothing there
FLOATS = ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"]


def same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def ignore(count: int) -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", GOOD, metadata={"format": "pt"})


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "sharded", {"a": A}, {"b": B})


def error_of(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


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


def test_links_in_the_folder_are_followed(sharded: Path, tmp_path: Path) -> None:
    snapshot_folder, blobs = tmp_path / "snapshots", tmp_path / "blobs"
    snapshot_folder.mkdir()
    sharded.rename(blobs)
    for path in blobs.iterdir():
        (snapshot_folder / path.name).symlink_to(path)
    checkpoint = Checkpoint.open(snapshot_folder)
    assert torch.equal(checkpoint.read("a"), A)
    assert Path("tokenizer.json") in checkpoint.files()


def test_keys_in_any_order_and_padding_are_read(tmp_path: Path) -> None:
    tensors = {"empty": torch.empty(0, 3), **GOOD, "last": torch.empty(0)}
    write_file(tmp_path / SINGLE, tensors, key_order=["b", "last", "a", "empty"], padding=5)
    assert [entry.name for entry in Checkpoint.open(tmp_path).shards[0].tensors] == ["empty", "a", "b", "last"]


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
    "offsets huge": ({"a": entry(offsets=[10**4000, 10**4000 + 24])}, 24, "expected a data_offsets of whole numbers"),
    "no dtype": ({"a": {"shape": [2, 3], "data_offsets": [0, 24]}}, 24, "expected dtype, shape and data_offsets"),
    "no object": ({"a": 3}, 24, "tensor 'a': expected dtype, shape and data_offsets, found '3'"),
    "overlap": ({"a": entry(), "b": entry(offsets=[20, 44])}, 44, "tensor 'b' overlaps the one before: expected it at"),
    "same bytes": ({"a": entry(), "b": entry()}, 24, "tensor 'b' overlaps the one before"),
    "hole": ({"a": entry(), "b": entry(offsets=[28, 52])}, 52, "tensor 'b' leaves a hole before it: expected it at"),
    "hole first": ({"a": entry(offsets=[4, 28])}, 28, "tensor 'a' leaves a hole before it"),
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


# --- reading ---------------------------------------------------------------------------------------------------------


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


def test_a_dtype_that_this_torch_lacks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(folder)
    monkeypatch.setitem(DTYPES, "BF16", (2, "bfloat99"))
    with pytest.raises(CheckpointError, match=r"tensor 'b' has dtype BF16, which torch .* install a newer torch"):
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


# --- writing ---------------------------------------------------------------------------------------------------------


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


# --- properties ------------------------------------------------------------------------------------------------------

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


FUZZED = header_of({"a": A, "b": B, "e": torch.empty(0, 2)}, metadata={"format": "pt"})
FUZZED_FILE = len(FUZZED).to_bytes(8, "little") + FUZZED + tensor_bytes(A) + tensor_bytes(B)
PIECES = st.sampled_from([b"", b"0", b"9", b"-", b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\0", b"\xff", b"e"])


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
