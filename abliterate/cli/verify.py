"""`abliterate verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.pipeline.options import ModelOptions
from abliterate.records.option import Declaration

VERIFYING = flags(
    "dtype", "device", "max_memory", "offline", "trust_remote_code", "revision",
    model=Declaration("The source: Hub id, folder or .gguf file.", argument=True, flag="original"),
)  # fmt: skip


@verb("measure")
def verify(
    options: Annotated[ModelOptions, VERIFYING],
    edited: Annotated[Path, typer.Argument(help="A folder that abliterate wrote.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Prove again, from the files, that EDITED is ORIGINAL edited by its recipe; exit code 1 when it is not."""
    from abliterate.commands.verify import verify
    from abliterate.render.verified import verified, verified_json

    one = verify(options.model, edited, options, progress())
    show(verified(one), verified_json(one), as_json)
    if not one.holds:
        raise typer.Exit(1)
