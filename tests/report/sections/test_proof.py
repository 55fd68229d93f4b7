"""What was proved, in a sentence and layer by layer."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections.proof import SECTION


def test_the_proof_by_layer_and_tensor(whole: Gathered) -> None:
    shown = SECTION.numbers(whole)
    assert shown["proof"]["per_layer"][-1] == 0.006
    assert len(shown["tensors"]) == 12
    assert "hook form" in repr(SECTION.words(whole))


def test_what_is_left_alone_is_named(whole: Gathered) -> None:
    assert "vision_tower" in repr(SECTION.words(whole))
