"""How far two labellers agree."""

from __future__ import annotations

import pytest

from abliterate.studies.phases.agreement import agreement_of, kappa_of


def test_kappa_of_textbook_tables() -> None:
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert kappa_of(pairs) == pytest.approx(0.4)
    found = agreement_of([[pair] for pair in pairs])
    assert found.low < 0.4 < found.high
    assert found.segments == 50
    assert agreement_of([]).to_json()["kappa"] is None
