"""What `apply` shows, and refuses before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from abliterate.cli.apply import applied_json
from abliterate.pipeline.write_edit import WrittenEdit
from abliterate.proofs.stream import StreamReport
from fixtures.tiny_chat import TINY


def test_directions_that_are_not_there(refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused("apply", TINY, "--directions", tmp_path / "no.safetensors", "--out", tmp_path / "edited")
    assert "no.safetensors" in said
    assert not (tmp_path / "edited").exists()


def test_the_result_as_json(tmp_path: Path) -> None:
    proof = StreamReport("silence", (0.0, 1e-3), 1e-2, 0.5)
    shown = applied_json(WrittenEdit(tmp_path, (), proof, untouched=57, notes=("one",)))
    assert shown["untouched"] == 57
    assert shown["proof"]["holds"] is True
    assert shown["notes"] == ["one"]
