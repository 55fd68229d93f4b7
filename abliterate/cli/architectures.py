"""`abliterate architectures`."""

from __future__ import annotations

from typing import Annotated

import typer

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson


@verb("look")
def architectures(
    types: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TYPE]...", help="Model types, such as llama; all by default.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table of the README.")] = False,
) -> None:
    """Prove every architecture of the installed transformers on a small clone, and list which are supported."""
    from abliterate.commands.architectures import architectures
    from abliterate.render.architectures import architectures as table
    from abliterate.render.architectures import architectures_json, architectures_markdown

    entries = architectures(types or (), progress())
    if markdown:
        print(architectures_markdown(entries))
        return
    show(table(entries), architectures_json(entries), as_json)
