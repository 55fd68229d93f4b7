"""`abliterate demo`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson
from abliterate.cli.next_steps import say_next


@verb("edit", "abliterate demo", "abliterate demo --out ./edited")
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Keep the edited tiny model in this folder.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the main job on the tiny chat model that comes with the package."""
    from abliterate.cli.run import result, result_json
    from abliterate.commands.demo import demo

    with tempfile.TemporaryDirectory() as temporary:
        one = demo(out or Path(temporary) / "edited-tiny-chat", progress())
        show(result(one, kept=out is not None), result_json(one), as_json)
    if out is not None:
        say_next(out, as_json)
