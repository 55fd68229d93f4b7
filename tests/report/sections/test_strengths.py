"""Strengths by site and layer."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections.strengths import by_layer, strengths_line
from fixtures.report_records import LAYERS


def test_one_number_is_spread_over_the_layers(whole: Gathered) -> None:
    spread = by_layer(whole)
    assert spread["embed"] == 0.25
    assert spread["attn"] == [0.5 + layer / 10 for layer in range(LAYERS)]
    assert spread["mlp"] == [1.25] * LAYERS


def test_they_are_said_in_a_few_words(whole: Gathered) -> None:
    assert strengths_line(whole) == "0.25 to 1.25, by layer, at embed, attn, mlp"
