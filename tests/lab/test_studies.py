"""What lies beside an edit: the page that a report would be, and nothing from outside of the folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.lab.studies import drawn, studies_in
from abliterate.report.page import write_report
from abliterate.studies.record import write_study
from fixtures import positions_record


def test_it_draws_what_a_report_draws(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert studies_in(copy) == studies_in(None) == ()
    write_study(copy, positions_record.record())
    assert studies_in(copy) == ("positions",)
    before = sorted(copy.iterdir())
    page = drawn(copy)
    assert 'id="positions"' in page
    assert sorted(copy.iterdir()) == before
    assert page == write_report(copy, tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_link_out_of_the_folder_is_not_shown(folder: Path, tmp_path: Path) -> None:
    write_study(tmp_path, positions_record.record())
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "positions.json").symlink_to(tmp_path / "positions.json")
    with pytest.raises(InputError, match=r"positions.json: is a link out of the folder"):
        drawn(copy)


def test_without_a_folder_there_is_nothing_to_draw() -> None:
    with pytest.raises(InputError, match="a report is about one"):
        drawn(None)
