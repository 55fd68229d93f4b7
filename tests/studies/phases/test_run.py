"""What a study of phases is asked, and of which form."""

from __future__ import annotations

from abliterate.prompts.forms import load_forms
from abliterate.studies.phases.run import Asked, detection_form


def test_vectors_are_made_of_the_first_complete_form_in_a_users_turn() -> None:
    form = detection_form(load_forms().choose(["open", "raw-closed", "request"]))
    assert form is not None
    assert form.name == "request"
    assert detection_form(load_forms().choose(["open"])) is None


def test_a_quick_study_needs_fewer_cases() -> None:
    assert Asked(quick=True).enough < Asked().enough
