"""The verb that writes the page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from abliterate.commands.report import report
from abliterate.errors import InputError
from abliterate.pipeline.run import Result


def test_the_page_is_written_into_the_folder_or_where_it_is_asked_for(result: Result, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(result.out, tmp_path / "edited"))
    own, other = report(folder), report(folder, tmp_path / "page.html")
    assert own == folder / "report.html"
    assert other.read_text() == own.read_text()
    with pytest.raises(InputError, match="was not written by abliterate"):
        report(tmp_path / "edited" / "..")
