"""The folder that a result goes into."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.out_folder import check_out_folder


def test_a_file_and_a_place_in_no_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for good in (None, tmp_path, tmp_path / "new"):
        check_out_folder(good)
    with pytest.raises(InputError, match="is a file; give a folder"):
        check_out_folder(tmp_path / "file")
    with pytest.raises(InputError, match=r"there is no folder .*nowhere; make it"):
        check_out_folder(tmp_path / "nowhere" / "new")
