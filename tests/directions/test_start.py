"""Where a search begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.directions import start
from abliterate.directions.candidates import MAX_KL, candidate_places
from abliterate.directions.selection import select
from abliterate.directions.start import select_start
from abliterate.pipeline.load import Loaded
from abliterate.progress import SILENT
from abliterate.storage.record_log import RecordLog
from fixtures.unfinished import found_by


def test_the_start_is_the_exact_best_of_the_finalists(
    loaded: Loaded, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scores are those that the published rule makes of the same place; what is kept of it is taken up."""
    monkeypatch.setattr(start, "FINALISTS", 4)
    monkeypatch.setattr(start, "PROMPTS", 12)
    training_replies, directions = found_by(loaded, tmp_path / "before")
    harmful, harmless = (loaded.splits.chat.encode(part.prompts) for part in loaded.splits.selecting())
    live, openings = loaded.live(SILENT), training_replies.openings
    kept = RecordLog(tmp_path / "kept.jsonl")
    found = select_start(live, directions, openings, harmful, harmless, kept=kept)
    finalists, others = found.candidates[:4], found.candidates[4:]
    assert len(found.candidates) == len(candidate_places(directions, range(int(0.8 * live.architecture.depth))))
    assert all(one.bypass is None and one.kl is None for one in others)
    assert max(one.estimate or 0 for one in finalists) <= min(one.estimate or 0 for one in others)
    admitted = [one.bypass for one in finalists if one.kl is not None and one.kl < MAX_KL]
    assert found.chosen.bypass == min(one for one in admitted if one is not None)
    assert found.to_json()["first"] == 12
    known = len(kept)
    assert select_start(live, directions, openings, harmful, harmless, kept=kept) == found
    assert len(kept) == known > 0
    of_rule = select(live, directions, openings, harmful[:12], harmless[:12], layer=found.chosen.layer)
    assert "first" not in of_rule.to_json()
    same = next(one for one in of_rule.candidates if one.position == found.chosen.position)
    assert same.bypass == pytest.approx(found.chosen.bypass, abs=0.05)
