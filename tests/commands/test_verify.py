"""The verb that verifies."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from abliterate.commands.verify import verify
from abliterate.pipeline.run import Result
from fixtures.tiny_chat import TINY, options


def test_verify_accepts_what_was_written(result: Result) -> None:
    checked = verify(str(TINY), result.out, options(Path()))
    assert checked.holds
    assert tuple(verdict.report for verdict in checked.of_status("edited")) == result.measured.tensors


@pytest.mark.parametrize("name", ["model.layers.2.mlp.down_proj.weight", "model.layers.2.mlp.up_proj.weight"])
def test_verify_names_the_tensor_that_was_changed_behind_its_back(result: Result, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in result.out.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    tensors = load_file(copy / "model.safetensors")
    tensors[name][3, 5] += 0.5
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    checked = verify(str(TINY), copy, options(Path()))
    assert not checked.holds
    assert [verdict.name for verdict in checked.of_status("other")] == [name]
