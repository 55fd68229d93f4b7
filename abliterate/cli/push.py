"""`abliterate push`, and what `--push` of a run does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import progress, verb
from abliterate.cli.terminal import note
from abliterate.pipeline.push_options import PushOptions


@verb(
    "ship",
    "abliterate push ./edited me/edited",
    "abliterate push ./edited me/edited --public --commit-message 'First edit'",
    hub=True,
)
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that abliterate wrote.", show_default=False)],
    repository: Annotated[
        str, typer.Argument(help="org/name on the Hub; made if it is not there.", show_default=False)
    ],
    push_options: PushOptions,
) -> None:
    """Upload a finished checkpoint with its card and manifest to the Hub."""
    from abliterate.commands.push import push

    note(f"pushed to {push(folder, repository, push_options, progress())}")
