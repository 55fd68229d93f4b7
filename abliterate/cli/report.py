"""`abliterate report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from abliterate.cli.app import show, verb


@verb("look", "abliterate report ./edited", "abliterate report ./edited --open")
def report(
    folder: Annotated[Path, typer.Argument(help="A folder that abliterate wrote.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The page. \\[default: FOLDER/report.html]", show_default=False)
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write one HTML page about an edit: figures, geometry, choice, front, replies side by side, proof."""
    from abliterate.commands.report import report

    page = report(folder, out)
    show(Text(str(page)), {}, False)
    if open_page:
        typer.launch(page.absolute().as_uri())
