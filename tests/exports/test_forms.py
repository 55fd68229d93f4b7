"""The forms in which an edit can be written: each export has its use, and each form that a run saves can be exported."""

from __future__ import annotations

import pytest

from abliterate.exports.forms import EXPORT_FORMS, SAVED_FORMS, USE


@pytest.mark.parametrize("form", EXPORT_FORMS)
def test_every_export_says_how_it_is_used(form: str) -> None:
    assert "here/x.gguf" in USE[form].format(out="here/x.gguf")


def test_what_a_run_saves_beside_its_checkpoint_can_be_exported() -> None:
    assert set(USE) == set(EXPORT_FORMS)
    assert set(SAVED_FORMS) - {"checkpoint"} <= set(EXPORT_FORMS)
