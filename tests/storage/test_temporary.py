"""Temporary folders go in the end, and a full disk is one line."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from abliterate.errors import CheckpointError, InputError
from abliterate.storage.staging import Staging
from abliterate.storage.temporary import full_disk, temporary_folder, writing_to

FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_the_folder_goes_in_the_end() -> None:
    with temporary_folder() as folder:
        (folder / "file").write_text("x")
    assert not folder.exists()


@pytest.mark.parametrize(
    "error", [FULL, OSError(errno.ENOSPC, "No space left on device"), PermissionError(13, "Permission denied")]
)
def test_a_full_disk_is_one_line_with_the_way_out(error: Exception) -> None:
    with (
        pytest.raises(InputError, match=r"the temporary folder cannot be .*; free space there, or set TMPDIR"),
        temporary_folder(),
    ):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    for error in (SafetensorError("HeaderTooSmall"), CheckpointError("damaged"), KeyboardInterrupt()):
        with pytest.raises(type(error)), writing_to("here", "there"):
            raise error
    assert not full_disk(SafetensorError("HeaderTooSmall"))


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="No such file or directory"), temporary_folder():
        pass


def test_a_destination_that_is_full_leaves_nothing_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def write() -> None:
        with Staging.open(out, "identity") as staging:
            save_file({"a": torch.ones(2)}, staging.path("model.safetensors"))
            raise FULL

    with pytest.raises(InputError, match=r"cannot be written .*No space left on device.*nothing was changed"):
        write()
    assert not out.exists()
