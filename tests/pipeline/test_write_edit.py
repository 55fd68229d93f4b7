"""An opened edit on the disk."""

from __future__ import annotations

import json
from pathlib import Path

from abliterate.pipeline.open_edit import EditFiles, open_edit
from abliterate.pipeline.run import Result
from abliterate.pipeline.write_edit import write_edit
from abliterate.progress import SILENT
from fixtures.tiny_chat import hashes, options


def test_the_edit_of_a_run_is_written_again_with_the_command_that_is_given(result: Result, tmp_path: Path) -> None:
    asked = options(tmp_path / "again")
    written = write_edit(open_edit(asked, EditFiles.of(result.out)), asked, ["abliterate", "some", "words"], SILENT)
    assert hashes(written.out)["model.safetensors"] == hashes(result.out)["model.safetensors"]
    manifest = json.loads((written.out / "abliterate.json").read_text())
    assert manifest["command"] == ["abliterate", "some", "words", "--out", "again"]
    assert written.proof.holds
    assert "run" not in manifest
