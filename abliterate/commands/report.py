"""`abliterate report`: one HTML page about an edit."""

from __future__ import annotations

from pathlib import Path

from abliterate.report.page import write_report


def report(folder: Path, out: Path | None = None) -> Path:
    """Write the page about a folder that abliterate wrote, to `out` or into it, and return where it is.

    Raises InputError for any other folder.
    """
    return write_report(folder, out)
