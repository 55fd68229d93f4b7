"""Verbs that tell of models without loading weights: inspect, architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import app, progress, show
from abliterate.cli.completion import Verb
from abliterate.cli.flags import (
    AsJson,
    Model,
    Offline,
    Revision,
    Trust,
    options,
)

# torch and transformers take seconds to import: verbs import what they need, so that --help and completion are instant.


@app.command(cls=Verb)
def inspect(
    model: Model,
    as_json: AsJson = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    revision: Revision = None,
) -> None:
    """Show the writers of a model and prove them on a small clone, its sizes, what a run will cost; loads no weights."""
    from abliterate.commands.inspect import inspect
    from abliterate.render.inspected import inspection, inspection_json

    given = options(model, Path(), offline=offline, trust_remote_code=trust_remote_code, revision=revision)
    one = inspect(given, progress())
    show(inspection(one), inspection_json(one), as_json)


@app.command(cls=Verb)
def architectures(
    types: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TYPE]...", help="Model types, such as llama; all by default.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table of the README.")] = False,
) -> None:
    """Prove every architecture of the installed transformers on a small clone, and list which are supported."""
    from abliterate.proofs import census
    from abliterate.render.architectures import architectures as table
    from abliterate.render.architectures import architectures_json, architectures_markdown

    bars = progress()
    chosen = types or [*census.model_types(), *census.multimodal_types()]
    entries = list(census.sweep(chosen, bars))
    if markdown:
        print(architectures_markdown(entries))
        return
    show(table(entries), architectures_json(entries), as_json)
