"""The verb that inspects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from abliterate.commands.inspect import inspect, words_of_edit
from abliterate.errors import InputError
from abliterate.pipeline.run import Result
from abliterate.storage.names import OBSERVATIONS
from fixtures.tiny_chat import TINY, options


def test_inspect_reads_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((TINY / "config.json").read_text())
    one = inspect(options(Path(), model=str(tmp_path)))
    assert one.parameters == sum(tensor.numel() for tensor in load_file(TINY / "model.safetensors").values())
    assert one.architecture.tied


def test_the_words_of_an_edit_are_read_from_its_record(result: Result, tmp_path: Path) -> None:
    """They are words of prompts and replies, so that they stay in the record that is never pushed."""
    record = json.loads((result.out / OBSERVATIONS).read_text())
    assert words_of_edit(result.out) == record["words"]
    assert "words" not in result.manifest
    message = "has no words of what was removed beside it; `abliterate features explain ORIGINAL"
    with pytest.raises(InputError, match=message):
        words_of_edit(tmp_path)
    (tmp_path / OBSERVATIONS).write_text(json.dumps({name: one for name, one in record.items() if name != "words"}))
    with pytest.raises(InputError, match=message):
        words_of_edit(tmp_path)
    (tmp_path / OBSERVATIONS).write_text(json.dumps({**record, "words": {"vocabulary": 3, "directions": [{}]}}))
    with pytest.raises(InputError, match="words"):
        words_of_edit(tmp_path)
