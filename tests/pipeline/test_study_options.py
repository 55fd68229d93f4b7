"""What every study is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.form_options import FORMS, PHRASES
from abliterate.pipeline.study_options import STUDY_FLAGS, StudyOptions
from abliterate.prompts import forms, phrases
from abliterate.records.option import declarations


def test_names_are_those_of_the_modules_that_take_time() -> None:
    assert (PHRASES, f"{PHRASES}-tiny") == (phrases.BUILTIN_PHRASES, phrases.TINY_PHRASES)
    assert forms.BUILTIN_FORMS == FORMS


def test_every_option_but_the_manner_of_replies_has_a_flag() -> None:
    assert set(declarations(StudyOptions)) - set(STUDY_FLAGS) == {"generation"}


def test_a_place_to_write_is_checked_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    StudyOptions("model", out=tmp_path / "new").check()
    with pytest.raises(InputError, match="is a file; give a folder"):
        StudyOptions("model", out=tmp_path / "file").check()
    with pytest.raises(InputError, match="there is no folder"):
        StudyOptions("model", out=tmp_path / "a" / "b").check()
