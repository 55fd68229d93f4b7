"""Tensors with a record in one file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from abliterate.errors import InputError
from abliterate.storage.tensor_file import load_whole, save_whole


def test_what_is_saved_comes_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    save_whole(tmp_path / "one.safetensors", {"a": torch.arange(3)}, {"record": '{"b": 1}'})
    tensors, record = load_whole(tmp_path / "one.safetensors", "record")
    assert tensors["a"].tolist() == [0, 1, 2]
    assert record == {"b": 1}
    assert load_whole(tmp_path / "one.safetensors", "other")[1] == {}
    assert [path.name for path in tmp_path.iterdir()] == ["one.safetensors"]


def test_what_cannot_be_written_or_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        save_whole(tmp_path / "nowhere" / "one.safetensors", {"a": torch.arange(3)}, {})
    with pytest.raises(InputError, match="cannot be read"):
        load_whole(tmp_path / "nowhere", "record")
    (tmp_path / "text").write_text("text")
    with pytest.raises(InputError, match=r"cannot be read .*expected a safetensors file"):
        load_whole(tmp_path / "text", "record")
    save_file({"a": torch.arange(3)}, tmp_path / "list", metadata={"record": "[1]"})
    with pytest.raises(InputError, match="record is no object"):
        load_whole(tmp_path / "list", "record")
