"""`abliterate reproduce`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import app, progress, show
from abliterate.cli.completion import Verb
from abliterate.cli.flags import (
    AsJson,
    Device,
    MaxMemory,
    Offline,
    Trust,
    Unproved,
    memory,
)


@app.command(cls=Verb)
def reproduce(
    manifest: Annotated[
        str, typer.Argument(help="abliterate.json, its folder, or a Hub repository that holds one.", show_default=False)
    ],
    model: Annotated[
        str | None,
        typer.Option(help="The original. \\[default: the Hub id that the manifest names]", show_default=False),
    ] = None,
    harmful: Annotated[
        str | None, typer.Option(help="The harmful prompts, if they do not lie beside it.", show_default=False)
    ] = None,
    harmless: Annotated[str | None, typer.Option(help="The harmless ones.", show_default=False)] = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="The chat template, if the run had one that does not.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the result in this folder.", show_default=False)] = None,
    device: Device = "auto",
    max_memory: MaxMemory = None,
    as_json: AsJson = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    allow_unproved: Unproved = False,
) -> None:
    """Repeat the run of a manifest and compare hashes and figures; exit code 1 where something differs."""
    given = {name: value for name, value in locals().items() if name not in ("manifest", "out", "as_json")}
    from abliterate.commands.reproduce import ReproduceOptions, reproduce
    from abliterate.render.reproduced import reproduced, reproduced_json

    if given["max_memory"] is not None:
        given["max_memory"] = memory(given["max_memory"])
    with tempfile.TemporaryDirectory() as temporary:
        one = reproduce(manifest, ReproduceOptions(**given), out or Path(temporary) / "again", progress())
        show(reproduced(one), reproduced_json(one), as_json)
    if not one.same:
        raise typer.Exit(1)
