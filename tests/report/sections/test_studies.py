"""Studies on the page: alone, or below an edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.report.load import Gathered, gather
from abliterate.report.page import render
from abliterate.report.sections.studies import words
from abliterate.studies.common import Verdict
from abliterate.studies.record import StudyRecord, write_study
from fixtures.report_records import evaluation, folder_of, manifest, observations

RECORD = StudyRecord(
    "phases", "house/chat", None, "float32", {}, 3,
    {"phrases": {"spec": "builtin:phrases"}},
    verdicts=(Verdict("a <b>claim", "3/4 [1, 2]", "c", "same", "It is so."),), notes=("a note",),
)  # fmt: skip


def test_a_folder_with_a_study_alone_has_a_page(tmp_path: Path) -> None:
    write_study(tmp_path, RECORD)
    records = gather(tmp_path)
    assert records.model == "house/chat"
    page = render(records)
    assert "a &lt;b&gt;claim" in page
    assert "3/4 [1, 2]" in page
    assert "It is so." in page
    assert "builtin:phrases, seed 3" in page


def test_it_stands_below_an_edit_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, manifest(), observations(), evaluation())
    assert words(gather(folder)) is None
    write_study(folder, RECORD)
    page = render(gather(folder))
    assert "It is so." in page
    assert 'id="proof"' in page


def test_a_record_of_another_shape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "phases.json").write_text('{"format": 1}')
    with pytest.raises(InputError, match=r"phases\.json"):
        gather(tmp_path)


def test_nothing_is_shown_where_there_is_no_study() -> None:
    assert words(Gathered({})) is None
