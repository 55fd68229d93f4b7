"""The forms of an edit."""

from __future__ import annotations

from abliterate.architectures.edit_forms import EDIT_FORMS
from abliterate.interventions.recipe import Recipe


def test_the_first_form_is_what_a_recipe_has_without_a_word() -> None:
    assert Recipe({}).form == EDIT_FORMS[0]
