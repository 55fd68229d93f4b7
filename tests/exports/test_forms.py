"""The forms in which an edit can be written: each export has its use, and each form that a run saves can be exported."""

from __future__ import annotations

from importlib import import_module

import pytest

from abliterate.exports.forms import EXPORT_FORMS, SAVED_FORMS, described


@pytest.mark.parametrize("name", EXPORT_FORMS)
def test_every_form_has_a_writer_and_says_how_it_is_used(name: str) -> None:
    form = EXPORT_FORMS[name]
    assert callable(import_module(form.module).export_form)
    assert "here/x" in form.use.format(out="here/x")
    assert form.reader in described((name,))


def test_what_a_run_saves_is_a_checkpoint_or_an_export_under_a_name_of_its_own() -> None:
    saved = [form.saved_as for form in EXPORT_FORMS.values() if form.saved_as]
    assert len(saved) == len(set(saved)) == len(SAVED_FORMS) - 1
    assert set(SAVED_FORMS) - {"checkpoint"} <= set(EXPORT_FORMS)
    assert described(("checkpoint", "adapter")) == "checkpoint, adapter (PEFT)"
