"""`abliterate inspect`."""

from __future__ import annotations

from typing import Annotated

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.pipeline.options import ModelOptions


@verb("look")
def inspect(
    options: Annotated[ModelOptions, flags("model", "offline", "trust_remote_code", "revision")],
    as_json: AsJson = False,
) -> None:
    """Show the writers of a model and prove them on a small clone, its sizes, what a run will cost; loads no weights."""
    from abliterate.commands.inspect import inspect
    from abliterate.render.inspected import inspection, inspection_json

    one = inspect(options, progress())
    show(inspection(one), inspection_json(one), as_json)
