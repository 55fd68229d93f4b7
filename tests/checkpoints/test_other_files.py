"""Files beside the shards: all go along but copies of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.other_files import copies_weights, file_stays, folder_stays, left_behind_note, named
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
