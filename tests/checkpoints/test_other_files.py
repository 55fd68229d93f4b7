"""Files beside the shards: all go along but copies of the weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.other_files import (
    copies_weights,
    file_stays,
    folder_stays,
    leads_out,
    left_behind_note,
    named,
    own_card,
    read_by_loaders,
)
from abliterate.errors import CheckpointError
from fixtures.checkpoints import GOOD, write_checkpoint, write_file


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("pytorch_model.bin", True),
        ("pytorch_model-00001-of-00002.bin", True),
        ("model.Q4_K_M.gguf", True),
        ("consolidated.00.pth", True),
        ("model.safetensors.index.json", True),
        (".gitattributes", True),
        ("README.md", True),
        ("abliterate.json", True),
        ("docs/README.md", False),
        ("tokenizer.model", False),
        ("LICENSE", False),
        ("speakers.bin", False),
        ("1_Pooling/config.json", False),
    ],
)
def test_only_copies_and_what_is_written_anew_stay(tmp_path: Path, name: str, stays: bool) -> None:
    assert file_stays(tmp_path, Path(name), {}) == stays


def test_folders_of_other_forms_stay() -> None:
    assert [name for name in ("onnx", "original", ".git", "2_Dense", "docs") if folder_stays(name)] == [
        "onnx",
        "original",
        ".git",
    ]


def test_a_file_that_holds_a_tensor_of_the_checkpoint_is_a_copy(tmp_path: Path) -> None:
    tensors = Checkpoint.open(write_checkpoint(tmp_path, GOOD)).tensors
    write_file(tmp_path / "copy.safetensors", {"a": GOOD["a"], "more": torch.ones(2)})
    write_file(tmp_path / "other.safetensors", {"a": torch.ones(3, 3)})  # the name alone is no copy
    (tmp_path / "damaged.safetensors").write_bytes(b"no header")
    found = {
        name: copies_weights(tmp_path, Path(f"{name}.safetensors"), tensors) for name in ("copy", "other", "damaged")
    }
    assert found == {"copy": True, "other": False, "damaged": False}
    assert file_stays(tmp_path, Path("copy.safetensors"), tensors)


def test_what_stays_is_named_but_for_what_nobody_misses() -> None:
    paths = [Path(name) for name in (".git", "README.md", "pytorch_model.bin")]
    assert named(paths) == [Path("pytorch_model.bin")]
    assert left_behind_note([]) == ()
    (note,) = left_behind_note([Path(f"{number}.bin") for number in range(7)])
    assert "0.bin" in note
    assert "and 2 more" in note


OUTSIDE = {
    "relative": "../secret/id_rsa",
    "absolute": "{outside}/id_rsa",
    "by a link of the folder": "docs/elsewhere",
    "by a chain": "first",
    "by a hidden file": ".git/config",
    "by its own name": "../source/../secret/id_rsa",
    "nowhere": "gone",
}
"""Where a link may lead that is not the folder's to give away."""


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "source", GOOD)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "id_rsa").write_text("PRIVATE KEY")
    for name in ("docs", ".git"):
        (folder / name).mkdir()
    (folder / ".git" / "config").write_text("url = https://user:token@example.org")
    (folder / "docs" / "elsewhere").symlink_to("../../secret/id_rsa")
    (folder / "first").symlink_to("docs/elsewhere")
    (folder / "docs" / "own.txt").write_text("own")
    return folder


@pytest.mark.parametrize("way", OUTSIDE)
@pytest.mark.parametrize("name", ["notes.txt", "docs/notes.txt"])
def test_a_link_out_of_the_folder_stays_and_is_named(linked: Path, tmp_path: Path, way: str, name: str) -> None:
    if way == "nowhere":
        (linked / "gone").symlink_to(tmp_path / "secret" / "id_rsa")
    target = OUTSIDE[way].format(outside=tmp_path / "secret")
    (linked / name).parent.joinpath(Path(name).name).symlink_to(
        target if target.startswith("/") else Path(os.path.relpath(linked / target, (linked / name).parent))
    )
    assert leads_out(linked, Path(name))
    checkpoint = Checkpoint.open(linked)
    assert Path(name) not in checkpoint.files()
    assert Path(name) in checkpoint.left_behind()
    assert Path("docs/own.txt") in checkpoint.files()


@pytest.mark.parametrize(
    "target", ["docs/own.txt", "docs/../docs/own.txt", "{folder}/docs/own.txt", "../source/docs/own.txt"]
)
def test_a_link_inside_of_the_folder_travels(linked: Path, target: str) -> None:
    (linked / "again.txt").symlink_to(target.format(folder=linked))
    assert not leads_out(linked, Path("again.txt"))
    assert Path("again.txt") in Checkpoint.open(linked).files()


def test_what_a_loader_reads_is_no_link_out_of_the_folder(linked: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "chat_template.jinja", "modeling_own.py"):
        assert read_by_loaders(Path(name))
        assert not read_by_loaders(Path("docs", name))
        (linked / name).unlink(missing_ok=True)
        (linked / name).symlink_to(tmp_path / "secret" / "id_rsa")
        with pytest.raises(CheckpointError, match=rf"{name} is a link out of the folder, .*put the file itself"):
            Checkpoint.open(linked).files()
        (linked / name).unlink()


def test_weights_may_be_links(linked: Path, tmp_path: Path) -> None:
    (linked / "model.safetensors").rename(tmp_path / "secret" / "big.safetensors")
    (linked / "model.safetensors").symlink_to(tmp_path / "secret" / "big.safetensors")
    assert Checkpoint.open(linked).read("a").equal(GOOD["a"])
    assert Path("model.safetensors") not in Checkpoint.open(linked).left_behind()


def test_a_snapshot_is_links_to_its_own_blobs_alone(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    (blobs / "own").write_text("own")
    (snapshot / "LICENSE").symlink_to("../../blobs/own")
    assert not leads_out(snapshot, Path("LICENSE"))
    (tmp_path / "cache").symlink_to(tmp_path / "models--a--b")
    assert not leads_out(tmp_path / "cache" / "snapshots" / "abc", Path("LICENSE"))
    (tmp_path / "id_rsa").write_text("PRIVATE KEY")
    (blobs / "planted").symlink_to(tmp_path / "id_rsa")
    (snapshot / "a.txt").symlink_to("../../blobs/planted")
    assert leads_out(snapshot, Path("a.txt"))
    (blobs / "own").unlink()
    blobs.rename(tmp_path / "home")
    (tmp_path / "home" / "b").write_text("PRIVATE KEY")
    blobs.symlink_to(tmp_path / "home")
    (snapshot / "b.txt").symlink_to("../../blobs/b")
    assert leads_out(snapshot, Path("b.txt")), "the folder of blobs is a link itself"


def test_a_card_that_is_a_link_out_of_the_folder_is_not_read(linked: Path, tmp_path: Path) -> None:
    assert own_card(linked) is None
    (linked / "README.md").write_text("ours")
    assert own_card(linked) == "ours"
    (linked / "README.md").unlink()
    (linked / "README.md").symlink_to(tmp_path / "secret" / "id_rsa")
    assert own_card(linked) is None
