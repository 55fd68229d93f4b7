"""What all studies print alike: a line for each claim, the notes, and where the record is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from abliterate.studies.common import Verdict
    from abliterate.studies.record import StudyRecord


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Return the claims, each with its figure, its control and what follows."""
    table = Table("claim", "figure", "control", "verdict")
    for one in verdicts:
        table.add_row(*(Text(text) for text in (one.claim, one.figure, one.control, one.verdict)))
    return table


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of texts in which no bracket is markup."""
    table = Table(*head)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def closing(record: StudyRecord, path: Path | None) -> list[RenderableType]:
    """Return the sentence of each claim, the notes, and the record's place."""
    lines: list[RenderableType] = [Text(one.sentence) for one in record.verdicts if one.sentence]
    lines += [Text(f"note: {note}", style="yellow") for note in record.notes]
    return [*lines, *([] if path is None else [Text(str(path), style="dim")])]


def study_json(record: StudyRecord, path: Path | None) -> dict[str, Any]:
    """Return the record as JSON, with its place where it was written."""
    return {**record.to_json(), "path": None if path is None else str(path)}
