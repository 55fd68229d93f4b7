"""`abliterate evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.pipeline.condition_options import SaidConditions
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.options import AskOptions
from abliterate.records.option import Declaration

EVALUATING = flags(
    "dtype", "device", "max_memory", "batch_size", "offline", "trust_remote_code", "revision",
    model=Declaration(
        "Hub id, folder, .gguf file or PEFT adapter; none with --endpoint.", argument=True, usual=lambda _: ""
    ),
)  # fmt: skip


@verb("measure")
def evaluate(
    options: Annotated[AskOptions, EVALUATING],
    said: SaidConditions,
    evaluate_options: EvaluateOptions,
    against: Annotated[
        str | None, typer.Option(help="The original; with --endpoint its name on the server.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write it here; DIR/evaluation.json is read by report.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure refusals, over-refusal and incoherence, and with --against what the edit did to predictions, with tests."""
    from abliterate.commands.evaluate import check_out, evaluate
    from abliterate.parallel.processes import Processes
    from abliterate.pipeline.conditions import settle
    from abliterate.progress import SILENT
    from abliterate.render.evaluated import evaluated
    from abliterate.storage.atomic import write_text_whole

    asked = said.on(options)
    evaluate_options.check(asked)
    check_out(out)
    served = evaluate_options.endpoint is not None
    settled = settle(asked, said.said, [] if served else [asked.model], None if served else against)
    first = Processes.launched().first
    one = evaluate(settled.options, evaluate_options, against, progress() if first else SILENT, settled)
    if not first:
        return
    if out:
        write_text_whole(out, json.dumps(one.to_json(), indent=1, ensure_ascii=False) + "\n")
    show(evaluated(one), one.to_json(), as_json)
