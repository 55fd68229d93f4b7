"""`abliterate apply`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.figures import proof_line
from abliterate.cli.next_steps import say_next
from abliterate.pipeline.options import Options
from abliterate.records.option import split

if TYPE_CHECKING:
    from abliterate.pipeline.write_edit import WrittenEdit

APPLYING = flags(
    "model", "out", "layer", "strength", "sites", "edit_form", "dtype", "device", "max_memory", "force", "offline",
    "trust_remote_code", "allow_unproved", "edited_dtype", "revision",
)  # fmt: skip


@verb(
    "edit",
    "abliterate apply org/model --directions ./edited/directions.safetensors --layer 15 --out ./again",
    "abliterate apply org/model --directions directions.safetensors --recipe recipe.json --out ./again",
)
def apply(
    options: Annotated[Options, APPLYING],
    directions: Annotated[
        Path, typer.Option(help="directions.safetensors of an earlier run.", rich_help_panel="edit", show_default=False)
    ],
    recipe: Annotated[
        Path | None, typer.Option(help="recipe.json of an earlier run.", rich_help_panel="edit", show_default=False)
    ] = None,
    row: Annotated[
        str | None,
        typer.Option(
            help="The direction by its name in the file, as a study names it: open/1/resid.15; several by commas, whose "
            "span is removed.",
            rich_help_panel="edit",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Edit a checkpoint by given directions and prove the result; needs no prompts and no chat template."""
    from abliterate.commands.apply import apply

    one = apply(options, directions, recipe, progress(), split(row or ""))
    show(applied(one), applied_json(one), as_json)
    say_next(one.out, as_json)


def applied(one: WrittenEdit) -> RenderableType:
    """Return what the proof says of a written checkpoint."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("edited", f"{len(one.tensors)} tensors as planned")
    facts.add_row("untouched", f"{one.untouched} tensors, bit for bit")
    facts.add_row("proof", proof_line(one.proof))
    facts.add_row("checkpoint", Text(str(one.out)))
    return Group(facts, *(Text(f"note: {note}", style="yellow") for note in one.notes))


def applied_json(one: WrittenEdit) -> dict[str, Any]:
    """Return a proof as JSON."""
    tensors = [asdict(report) for report in one.tensors]
    return {
        "out": str(one.out),
        "edited": tensors,
        "untouched": one.untouched,
        "proof": one.proof.to_json(),
        "notes": list(one.notes),
    }
