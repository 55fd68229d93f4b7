"""The component around turns: a planted rise is seen before the turn."""

from __future__ import annotations

import numpy
import pytest

from abliterate.studies.phases.aligned import aligned, turn_of
from abliterate.studies.phases.labels import CutReply, LabelledReply
from abliterate.studies.phases.method import Segment


def turning(at: int | None) -> LabelledReply:
    segments = (Segment("content", 0, 40),) if at is None else (Segment("content", 0, at), Segment("safety", at, 40))
    return LabelledReply(CutReply((1,) * 40, "a long enough text of many words", (), (20, 40), 40), segments)


def test_a_component_that_rises_five_tokens_before_leads_by_five() -> None:
    turns = [turning(20 + place) for place in range(8)]
    values = [numpy.where(numpy.arange(40) >= 15 + place, 2.0, 0.0) for place in range(8)]
    assert [turn_of(one) for one in turns] == list(range(20, 28))
    found = aligned(turns, values)
    assert found is not None
    assert found.turns == 8
    assert found.auroc == pytest.approx((5 + 3 / 2) / 8)
    assert aligned(turns[:3], values[:3]) is None
