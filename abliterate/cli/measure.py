"""Verbs that measure and show: evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import app, progress, show
from abliterate.cli.flags import (
    AsJson,
    BatchSize,
    Device,
    Dtype,
    Harmful,
    Harmless,
    MaxMemory,
    Model,
    Offline,
    Revision,
    System,
    Template,
    Thinking,
    Trust,
    options,
)

# torch and transformers take seconds to import: verbs import what they need, so that --help and completion are instant.


@app.command()
def evaluate(
    model: Model,
    against: Annotated[
        str | None, typer.Option(help="The original, for KL(original || model).", show_default=False)
    ] = None,
    harmful: Harmful = "builtin:harmful",
    harmless: Harmless = "builtin:harmless",
    dtype: Dtype = "auto",
    device: Device = "auto",
    max_memory: MaxMemory = None,
    batch_size: BatchSize = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    revision: Revision = None,
    system: System = None,
    thinking: Thinking = "auto",
    chat_template: Template = None,
) -> None:
    """Measure refusals, and the divergence from the original, on the report side of the prompts."""
    given = {name: value for name, value in locals().items() if name not in ("as_json", "against")}
    from abliterate.render.evaluated import evaluated, evaluated_json
    from abliterate.verbs.evaluate import evaluate

    one = evaluate(options(out=Path(), **given), against, progress())
    show(evaluated(one), evaluated_json(one), as_json)
