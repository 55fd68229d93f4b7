"""What becomes of prompts."""

from __future__ import annotations

import pytest

from abliterate.studies.phases.outcomes import INCOHERENT, outcome_name
from fixtures.labelled_segments import BAKE, FLOUR, STOP, reply


@pytest.mark.parametrize(
    ("text", "complete", "incomplete"),
    [
        (f"{BAKE} {STOP}", "refuses", "goes on, then turns"),
        (f"{BAKE} {FLOUR} {STOP}", "answers", "goes on, then turns"),
        (f"{BAKE} {FLOUR}", "answers", "goes on"),
        (f"{STOP} {BAKE}", "refuses", "evades"),
        (f"{STOP} {BAKE} {STOP}", "refuses", "evades, then turns"),
        (f"Sure! {BAKE}", "answers", "neutral"),
        (f"Sure! {BAKE} {STOP}", "answers", "neutral, then turns"),
        ("", INCOHERENT, INCOHERENT),
        ("no " * 60, INCOHERENT, INCOHERENT),
    ],
)
def test_what_becomes_of_a_prompt(text: str, complete: str, incomplete: str) -> None:
    assert outcome_name(reply(text), "complete") == complete
    assert outcome_name(reply(text), "incomplete") == incomplete
