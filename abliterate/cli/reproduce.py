"""`abliterate reproduce`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson
from abliterate.pipeline.reproduce_options import ReproduceOptions

if TYPE_CHECKING:
    from abliterate.commands.reproduce import Reproduced


@verb("measure", "abliterate reproduce ./edited", "abliterate reproduce me/edited --model ./original --out ./again")
def reproduce(
    manifest: Annotated[
        str, typer.Argument(help="abliterate.json, its folder, or a Hub repository that holds one.", show_default=False)
    ],
    reproduce_options: ReproduceOptions,
    out: Annotated[Path | None, typer.Option(help="Keep the result in this folder.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Repeat the run of a manifest and compare hashes and figures; exit code 1 where something differs."""
    from abliterate.commands.reproduce import reproduce

    with tempfile.TemporaryDirectory() as temporary:
        one = reproduce(manifest, reproduce_options, out or Path(temporary) / "again", progress())
        show(reproduced(one), reproduced_json(one), as_json)
    if not one.same:
        raise typer.Exit(1)


SHOWN = 20
"""Differences that are listed; `--json` has all."""


def reproduced(one: Reproduced) -> RenderableType:
    """Return one line where nothing differs, else a table of what does; and what could not be compared."""
    files = "" if one.files is None else f"; {one.files[0]} of {one.files[1]} weight files are the same bit for bit"
    notes = [Text(f"note: {note}", style="yellow") for note in one.notes]
    if one.same:
        same = f"reproduced: all {one.compared} values of the manifest are the same{files}"
        return Group(Text(same, style="green"), *notes)
    table = Table("what", "then", "now")
    for difference in one.differences[:SHOWN]:
        table.add_row(Text(difference.place), Text(shown(difference.before)), Text(shown(difference.after)))
    parts: list[RenderableType] = [
        Text(f"{len(one.differences)} differences in {one.compared} values{files}", style="yellow"),
        table,
    ]
    if len(one.differences) > SHOWN:
        parts.append(Text(f"... and {len(one.differences) - SHOWN} more; --json lists them all"))
    return Group(*parts, Text(f"what may explain them: {'; '.join(one.explanations)}"), *notes)


def shown(value: Any) -> str:
    """Return a value short enough for a table."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def reproduced_json(one: Reproduced) -> dict[str, Any]:
    """Return every difference as JSON."""
    return {
        "same": one.same,
        "compared": one.compared,
        "files": None if one.files is None else {"same": one.files[0], "compared": one.files[1]},
        "differences": [vars(difference) for difference in one.differences],
        "explanations": list(one.explanations),
        "notes": list(one.notes),
        "manifest": one.result.manifest,
    }
