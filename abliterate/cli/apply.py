"""`abliterate apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.pipeline.options import Options

APPLYING = flags(
    "model", "out", "layer", "strength", "sites", "dtype", "device", "max_memory", "force", "offline",
    "trust_remote_code", "allow_unproved", "edited_dtype", "revision",
)  # fmt: skip


@verb("edit")
def apply(
    options: Annotated[Options, APPLYING],
    directions: Annotated[Path, typer.Option(help="directions.safetensors of an earlier run.", show_default=False)],
    recipe: Annotated[Path | None, typer.Option(help="recipe.json of an earlier run.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Edit a checkpoint by given directions and prove the result; needs no prompts and no chat template."""
    from abliterate.commands.apply import apply
    from abliterate.render.applied import applied, applied_json

    one = apply(options, directions, recipe, progress())
    show(applied(one), applied_json(one), as_json)
