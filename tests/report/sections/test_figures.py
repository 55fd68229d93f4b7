"""The run's own figures, row by row."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections.figures import measures, words


def test_a_row_for_each_side_and_each_divergence(whole: Gathered) -> None:
    figures = whole.manifest["figures"]
    rows = measures(figures)
    assert len(rows) == 2 + 3
    assert rows[0][1].startswith("24/25")
    assert rows[0][2].startswith("2/25")
    assert all(row[2].endswith(" nats") for row in rows[2:])


def test_nothing_without_figures(bare: Gathered) -> None:
    assert words(bare) is None
