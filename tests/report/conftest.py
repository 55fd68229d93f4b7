"""Records as the page reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.report.load import Gathered, gather
from fixtures.report_records import evaluation, folder_of, manifest, observations


@pytest.fixture
def whole(tmp_path: Path) -> Gathered:
    """The records of a run that observed and searched, and of an evaluation of it."""
    return gather(folder_of(tmp_path, manifest(), observations(), evaluation()))


@pytest.fixture
def bare(tmp_path: Path) -> Gathered:
    """The manifest of an edit that nobody measured."""
    (tmp_path / "bare").mkdir()
    return gather(folder_of(tmp_path / "bare", {**manifest(), "figures": None, "search": None}))
