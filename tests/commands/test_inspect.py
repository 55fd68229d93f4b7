"""The verb that inspects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from abliterate.commands.inspect import inspect, words_of_edit
from abliterate.errors import InputError
from abliterate.pipeline.run import Result
from fixtures.tiny_chat import TINY, options


def test_inspect_reads_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((TINY / "config.json").read_text())
    one = inspect(options(Path(), model=str(tmp_path)))
    assert one.parameters == sum(tensor.numel() for tensor in load_file(TINY / "model.safetensors").values())
    assert one.architecture.tied


def test_the_words_of_an_edit_are_read_from_its_record(result: Result, tmp_path: Path) -> None:
    assert words_of_edit(result.out) == result.manifest["words"]
    record = {**result.manifest}
    del record["words"]
    (tmp_path / "abliterate.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="holds no words of what was removed; `abliterate features explain ORIGINAL"):
        words_of_edit(tmp_path)
    (tmp_path / "abliterate.json").write_text(json.dumps({**record, "words": {"vocabulary": 3, "directions": [{}]}}))
    with pytest.raises(InputError, match="words"):
        words_of_edit(tmp_path)
