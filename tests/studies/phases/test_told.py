"""Which forms are chosen."""

from __future__ import annotations

from abliterate.prompts.forms import load_forms
from abliterate.studies.phases.told import chosen_form


def test_a_form_is_chosen_by_sentence_and_place() -> None:
    forms = load_forms()
    assert chosen_form(forms, "complete", "user") == forms["question"]
    assert chosen_form(forms, "incomplete", "reply") == forms["reply-open"]
    assert chosen_form(forms.choose(["raw-closed"]), "complete", "user") == forms["raw-closed"]
    assert chosen_form(forms.choose(["open"]), "complete", "user") is None
