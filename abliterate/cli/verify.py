"""`abliterate verify`."""

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
    MaxMemory,
    Offline,
    Revision,
    Trust,
    options,
)


@app.command(cls=Verb)
def verify(
    original: Annotated[str, typer.Argument(help="The source: Hub id, folder or .gguf file.", show_default=False)],
    edited: Annotated[Path, typer.Argument(help="A folder that abliterate wrote.", show_default=False)],
    dtype: Dtype = "auto",
    device: Device = "auto",
    max_memory: MaxMemory = None,
    as_json: AsJson = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    revision: Revision = None,
) -> None:
    """Prove again, from the files, that EDITED is ORIGINAL edited by its recipe; exit code 1 when it is not."""
    from abliterate.commands.verify import verify
    from abliterate.render.verified import verified, verified_json

    given = options(
        original,
        Path(),
        dtype=dtype,
        device=device,
        max_memory=max_memory,
        offline=offline,
        trust_remote_code=trust_remote_code,
        revision=revision,
    )
    one = verify(original, edited, given, progress())
    show(verified(one), verified_json(one), as_json)
    if not one.holds:
        raise typer.Exit(1)
