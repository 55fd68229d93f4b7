"""Labels by examples: a segment is what it is nearer to."""

from __future__ import annotations

import torch

from abliterate.studies.phases.examples import Passages, concept_by


def test_segments_are_what_they_are_nearer_to() -> None:
    rows = torch.eye(4, dtype=torch.float64)
    passages = Passages(rows[:1].expand(3, -1) + 5, rows[1:2].expand(4, -1) + 5)
    scores = passages.scores(rows[:2] + 5)
    assert [concept_by(float(one), 0.0) for one in scores] == ["safety", "content"]
    assert concept_by(0.03, 0.0) == "neutral"
