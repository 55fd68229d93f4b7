"""Log-odds under many interventions."""

from __future__ import annotations

from pathlib import Path

import torch

from abliterate.interventions import added, added_rows
from abliterate.models.live_model import LiveModel
from abliterate.storage.record_log import RecordLog
from abliterate.studies.scores import ROWS, scores_under
from fixtures.planted import SAFE

PROMPTS = [(3, 5, 9), (4, 8, 11, 12), (21, 5)]


def test_rows_are_scored_as_one_by_one_and_kept(planted: tuple[LiveModel, torch.Tensor], tmp_path: Path) -> None:
    live, direction = planted
    rows = torch.linspace(-2, 2, ROWS + 3)[:, None] * direction

    def under(own: torch.Tensor, start: int) -> object:
        assert torch.equal(own, rows[start : start + len(own)])
        return added_rows(live.model, own, [2] * len(own))

    def scored(some: torch.Tensor) -> torch.Tensor:
        kept = RecordLog(tmp_path / "units.jsonl")
        return scores_under(live, [(SAFE,)], some, PROMPTS, under, "added", kept)  # type: ignore[arg-type]

    found = scored(rows)
    with torch.no_grad(), added(live.model, rows[-1], 2):
        share = live.model(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)[SAFE]
    assert torch.allclose(found[-1, 0], (share / (1 - share)).log(), atol=1e-3)
    lines = (tmp_path / "units.jsonl").read_bytes()
    assert torch.equal(scored(rows), found)
    assert (tmp_path / "units.jsonl").read_bytes() == lines
