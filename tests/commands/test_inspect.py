"""The verb that inspects."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from abliterate.commands.inspect import inspect
from fixtures.tiny_chat import TINY, options


def test_inspect_reads_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((TINY / "config.json").read_text())
    one = inspect(options(Path(), model=str(tmp_path)))
    assert one.parameters == sum(tensor.numel() for tensor in load_file(TINY / "model.safetensors").values())
    assert one.architecture.tied
