"""Verbs that tell of models without loading weights: inspect, architectures."""

from __future__ import annotations

from pathlib import Path

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
