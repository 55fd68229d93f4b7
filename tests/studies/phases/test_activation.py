"""Strengths of a vector."""

from __future__ import annotations

from dataclasses import replace

from abliterate.pipeline.study_options import StudyOptions
from abliterate.studies.phases.activation import Intervened, chosen_alpha
from fixtures.tiny_chat import TINY

OPTIONS = StudyOptions(model=str(TINY), phrases="builtin:phrases-tiny", only=("question", "reply-open"), samples=0)


def tried(alpha: float, after: tuple[str, ...]) -> Intervened:
    return Intervened("dim", "A1", alpha, "select", ("goes on",) * len(after), after)


def test_the_strength_is_the_one_that_does_most_before_replies_fall_apart() -> None:
    turns, still, apart = "goes on, then turns", "goes on", "incoherent"
    weak, strong, broken = tried(0.5, (turns, still)), tried(1.0, (turns, turns)), tried(2.0, (turns, apart))
    assert chosen_alpha([weak, strong, broken]) == 1.0
    assert chosen_alpha([weak, replace(strong, after=(turns, still)), broken]) == 0.5
    assert chosen_alpha([broken]) == 2.0
    assert chosen_alpha([]) == 1.0
