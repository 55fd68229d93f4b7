"""`abliterate reproduce`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson
from abliterate.pipeline.reproduce_options import ReproduceOptions


@verb("measure")
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
    from abliterate.render.reproduced import reproduced, reproduced_json

    with tempfile.TemporaryDirectory() as temporary:
        one = reproduce(manifest, reproduce_options, out or Path(temporary) / "again", progress())
        show(reproduced(one), reproduced_json(one), as_json)
    if not one.same:
        raise typer.Exit(1)
