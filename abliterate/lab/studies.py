"""What was saved beside an edit and can be looked at from the lab: the records that `abliterate report` draws."""

from __future__ import annotations

from pathlib import Path

from abliterate.checkpoints.other_files import leads_out
from abliterate.errors import InputError
from abliterate.report.load import gather
from abliterate.report.page import render
from abliterate.storage.names import EVALUATION, MANIFEST, OBSERVATIONS, STUDIES, STUDY_RECORDS, STUDY_REPLIES

RECORDS = (MANIFEST, OBSERVATIONS, EVALUATION, *STUDY_RECORDS, *STUDY_REPLIES)
"""What the page about a folder is made of."""


def studies_in(folder: Path | None) -> tuple[str, ...]:
    """Return the names of the studies whose records lie in a folder."""
    return () if folder is None else tuple(name for name in STUDIES if (folder / f"{name}.json").is_file())


def drawn(folder: Path | None) -> str:
    """Return the page that `abliterate report` would write about a folder; nothing is written.

    Raises InputError as that does, and for a record that is a link out of the folder: the page shows what is in it.
    """
    if folder is None:
        raise InputError("the model is not a folder, and a report is about one")
    for name in RECORDS:
        if leads_out(folder, Path(name)):
            raise InputError(f"{folder / name}: is a link out of the folder; put the file itself in its place")
    return render(gather(folder))
