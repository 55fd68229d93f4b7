"""The choice of a direction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abliterate.directions.selection import select
from abliterate.pipeline.load import Loaded
from abliterate.progress import SILENT
from abliterate.storage.record_log import RecordLog
from fixtures.unfinished import found_by


@pytest.mark.slow
def test_what_is_kept_of_other_weights_is_not_taken_up(loaded: Loaded, cache: Path, tmp_path: Path) -> None:
    """Of other directions, openings or prompts: each choice is that of records of its own."""
    training_replies, directions = found_by(loaded, tmp_path / "before")
    harmful, harmless = (loaded.splits.chat.encode(part.prompts) for part in loaded.splits.selecting())
    turned = replace(directions, differences=directions.differences.flip(0) * 1.01)
    fewer = (
        training_replies.openings[:1] if len(training_replies.openings) > 1 else ((*training_replies.openings[0], 5),)
    )
    live = loaded.live(SILENT)
    choices: tuple[tuple[Any, ...], ...] = (
        (directions, training_replies.openings, harmful, harmless),
        (turned, training_replies.openings, harmful, harmless),
        (directions, fewer, harmful, harmless),
        (directions, training_replies.openings, harmful[1:], harmless),
        (directions, training_replies.openings, harmful, harmless[1:]),
    )
    for given in choices:
        records = RecordLog(tmp_path / "all.jsonl")
        mixed = select(live, *given, layer=4, kept=records)
        assert mixed == select(live, *given, layer=4)
    assert len(records) > len(choices)
