"""A reply as a bar."""

from __future__ import annotations

from abliterate.studies.phases.labels import CutReply, LabelledReply, Piece
from abliterate.studies.phases.method import Segment
from abliterate.studies.phases.record import bar, transitions_json


def test_a_bar_has_phases_and_no_words() -> None:
    cut = CutReply((1,) * 9, "Mix it. I can't help.", (Piece(0, 4, "Mix it."), Piece(4, 9, "I can't help.")), (4, 9), 9)
    reply = LabelledReply(cut, (Segment("content", 0, 4), Segment("safety", 4, 9)))
    assert bar("refuses", reply) == {"outcome": "refuses", "tokens": 9, "phases": [["content", 0, 4], ["safety", 4, 9]]}
    assert transitions_json([reply]) == {"to_safety": [4], "from_safety": [], "interruptions": 0}
