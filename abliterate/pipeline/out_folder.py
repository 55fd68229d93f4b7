"""The folder that a verb writes its result into. Imports nothing that takes time."""

from __future__ import annotations

from pathlib import Path

from abliterate.errors import InputError


def check_out_folder(out: Path | None) -> None:
    """Raise InputError, before anything is opened, for an --out that is a file, or lies in no folder."""
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; give a folder")
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.absolute().parent}; make it, or choose another")
