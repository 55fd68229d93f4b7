"""What `report` refuses."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path

from abliterate.cli.report import report


def test_a_folder_without_records(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "abliterate.json" in refused("report", tmp_path)
    assert not list(tmp_path.iterdir())


def test_it_opens_no_browser_unless_asked() -> None:
    assert signature(report).parameters["open_page"].default is False
