"""Activations in two dimensions, layer by layer."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections.activations import SECTION
from fixtures.report_records import LAYERS


def test_planes_where_they_were_observed(whole: Gathered, bare: Gathered) -> None:
    assert SECTION.words(whole) is not None
    assert SECTION.words(bare) is None
    assert [plane["layer"] for plane in SECTION.numbers(whole)["pca"]["layers"]] == list(range(LAYERS + 1))
    assert not SECTION.numbers(bare)["pca"]
