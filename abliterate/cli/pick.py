"""`abliterate pick`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.cli.app import progress, show, verb
from abliterate.cli.apply import applied, applied_json
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.next_steps import say_next
from abliterate.pipeline.options import Options
from abliterate.records.option import Declaration

if TYPE_CHECKING:
    from abliterate.commands.pick import Picked
    from abliterate.search.stages import SearchResult

PICKING = flags(
    "max_kl", "target_refusals", "pick", "max_lost", "dtype", "device", "max_memory", "force", "offline", "trust_remote_code",
    "allow_unproved", "revision",
    model=Declaration("The original. \\[default: the Hub id that the manifest names]", usual=lambda _: ""),
    out=Declaration("Folder for the result.", read=Path, kind=Path),
)  # fmt: skip


@verb(
    "edit",
    "abliterate pick ./edited --max-kl 0.005 --out ./milder",
    "abliterate pick ./edited --pick knee --out ./knee",
)
def pick(
    folder: Annotated[Path, typer.Argument(help="A folder that a run with a search has left.", metavar="DIR")],
    options: Annotated[Options, PICKING],
    as_json: AsJson = False,
) -> None:
    """Take another point of the front that a run has found: written and proved in seconds, without searching again."""
    from abliterate.commands.pick import pick

    one = pick(folder, options, progress())
    show(picked(one), picked_json(one), as_json)
    say_next(one.written.out, as_json)


def picked(one: Picked) -> RenderableType:
    """Return the front with the point that was taken, and the proof."""
    said = f"its figures are those of the search: abliterate evaluate {one.written.out} --against ORIGINAL measures it"
    return Group(front_table(one.found), applied(one.written), Text(said))


def front_table(found: SearchResult) -> Table:
    """Return the points that no other beats, on the select split, with the one that was taken marked, and those that lose too much."""
    front = found.front
    keeps, allowed = front.original.kept_prompts > 0, front.keeping()
    names = ["", "refusals", "KL, first token", *(["refusals that should stay"] if keeps else [])]
    table = Table(*names, title="the front, on the select split", title_justify="left")
    for point in front.offered():
        lost = "" if point in allowed else f"beyond --max-lost {front.max_lost:g}"
        mark = "taken" if point is found.chosen else lost
        kept = [f"{point.kept}/{point.kept_prompts}"] if keeps else []
        table.add_row(mark, f"{point.refusals}/{point.prompts}", f"{point.kl:.3g}", *kept)
    return table


def picked_json(one: Picked) -> dict[str, Any]:
    """Return both as JSON."""
    return {"search": one.found.to_json(), **applied_json(one.written)}
