"""`abliterate apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import app, progress, show
from abliterate.cli.completion import Verb
from abliterate.cli.flags import (
    AsJson,
    Device,
    Dtype,
    EditedDtype,
    Force,
    Layer,
    MaxMemory,
    Model,
    Offline,
    Out,
    Revision,
    Sites,
    Strength,
    Trust,
    Unproved,
    options,
)


@app.command(cls=Verb)
def apply(
    model: Model,
    directions: Annotated[Path, typer.Option(help="directions.safetensors of an earlier run.", show_default=False)],
    out: Out = None,
    recipe: Annotated[Path | None, typer.Option(help="recipe.json of an earlier run.", show_default=False)] = None,
    layer: Layer = "auto",
    strength: Strength = None,
    sites: Sites = "embed,attn,mlp",
    dtype: Dtype = "auto",
    device: Device = "auto",
    max_memory: MaxMemory = None,
    as_json: AsJson = False,
    force: Force = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    allow_unproved: Unproved = False,
    edited_dtype: EditedDtype = None,
    revision: Revision = None,
) -> None:
    """Edit a checkpoint by given directions and prove the result; needs no prompts and no chat template."""
    given = {name: value for name, value in locals().items() if name not in ("as_json", "directions", "recipe")}
    from abliterate.commands.apply import apply
    from abliterate.render.applied import applied, applied_json

    one = apply(options(**given), directions, recipe, progress())
    show(applied(one), applied_json(one), as_json)
