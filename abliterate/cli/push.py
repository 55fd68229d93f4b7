"""`abliterate push`, and what `--push` of other verbs does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from abliterate.cli.app import app, progress
from abliterate.cli.completion import Verb


@app.command(cls=Verb)
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that abliterate wrote.", show_default=False)],
    repository: Annotated[
        str, typer.Argument(help="org/name on the Hub; made if it is not there.", show_default=False)
    ],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; private otherwise.")] = False,
) -> None:
    """Upload a finished checkpoint with its card and manifest to the Hub."""
    publish(folder, repository, public)


def publish(folder: Path, repository: str, public: bool) -> None:
    """Push and say where the result is."""
    from abliterate.hub.push import push as upload

    Console(stderr=True).print(f"pushed to {upload(folder, repository, public=public, progress=progress())}")
