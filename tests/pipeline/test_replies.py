"""The replies to the training prompts: which prompts make the direction, and how refusals open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from abliterate.pipeline import replies as module
from abliterate.pipeline.load import Loaded
from abliterate.pipeline.replies import ENOUGH_REFUSALS, TrainingReplies, collect_training_replies
from abliterate.progress import SILENT
from abliterate.replies.refusals import is_refusal
from abliterate.storage.record_log import Unfinished


@pytest.fixture
def collected(loaded: Loaded, tmp_path: Path) -> TrainingReplies:
    return collect_training_replies(replace(loaded, unfinished=Unfinished(tmp_path)), SILENT)


def test_the_direction_rests_on_what_was_refused_and_what_was_answered(
    collected: TrainingReplies, loaded: Loaded
) -> None:
    assert not collected.few_refusals
    assert collected.notes == ()
    verdicts = [is_refusal(loaded.tokenizer.decode(list(reply))) for reply, _ in collected.replies]
    assert [verdict for _, verdict in collected.replies] == verdicts
    assert list(collected.harmful) == [place for place, verdict in enumerate(verdicts) if verdict]
    assert len(collected.harmful) >= ENOUGH_REFUSALS
    refusals = [reply for reply, verdict in collected.replies if verdict]
    opened = [any(reply[: len(one)] == one for one in collected.openings) for reply in refusals]
    assert sum(opened) >= module.OPENINGS_COVERAGE * len(refusals)
    record = collected.record(loaded.splits)
    assert record["harmful"] == {**loaded.splits.record()["harmful"], "used": len(collected.harmful)}
    assert record["harmless"]["used"] == len(collected.harmless)


def test_few_refusals_let_the_direction_rest_on_all(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENOUGH_REFUSALS", 10_000)
    collected = collect_training_replies(replace(loaded, unfinished=Unfinished(tmp_path)), SILENT)
    harmful, harmless = loaded.splits.training()
    assert collected.few_refusals
    assert (list(collected.harmful), list(collected.harmless)) == (
        list(range(len(harmful))),
        list(range(len(harmless))),
    )
    assert f"of {len(harmful)} harmful training prompts" in collected.notes[0]
