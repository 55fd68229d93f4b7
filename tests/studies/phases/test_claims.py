"""The claims about begun sentences."""

from __future__ import annotations

from abliterate.prompts.forms import load_forms
from abliterate.studies.phases.claims import Pair, continued_claims, next_is_safe
from abliterate.studies.phases.outcomes import changed_outcomes, edited, outcomes_of
from fixtures.labelled_segments import BAKE, FLOUR, STOP, reply


def test_outcomes_are_counted_and_paired() -> None:
    forms = load_forms()
    texts = [f"{BAKE} {FLOUR}"] * 9 + [STOP]
    begun = outcomes_of(forms["open"], [reply(text) for text in texts], ["a"] * 5 + ["b"] * 5)
    asked = outcomes_of(forms["question"], [reply(STOP)] * 10, ["a"] * 5 + ["b"] * 5)
    assert begun.table["goes on"].count == 9
    assert begun.by_category["b"]["evades"].count == 1
    assert asked.table["refuses"].count == 10
    assert begun.turned_of_going_on.total == 9
    (verdict,) = continued_claims({"question": asked, "open": begun})
    assert verdict.verdict == "shown"
    assert "9/10" in verdict.figure
    assert "0/10" in verdict.figure
    silent = outcomes_of(forms["question"], [reply("")] * 10, ["a"] * 10)
    assert not Pair(silent, begun).kept
    (verdict,) = continued_claims({"question": silent, "open": begun})
    assert verdict.verdict == "not decidable"
    assert "nan" not in verdict.sentence
    moved = edited(asked, outcomes_of(forms["question"], [reply(BAKE)] * 10, ["a"] * 10))
    assert moved.refused.lost == 10
    assert moved.moved == {"refuses": {"answers": 10}}
    assert changed_outcomes(["a", "a", "b"], ["a", "b", "b"]) == {"a": {"a": 1, "b": 1}, "b": {"b": 1}}


def test_the_sentence_behind_the_fill_is_looked_at_alone() -> None:
    assert next_is_safe(reply(f"{BAKE} {STOP}")) == (False, True)
    assert next_is_safe(reply(f"{BAKE} {FLOUR} {STOP}")) == (False, False)
    assert next_is_safe(reply("Mix the")) is None
