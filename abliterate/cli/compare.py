"""`abliterate compare`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.errors import InputError
from abliterate.pipeline.condition_options import SaidConditions
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.options import AskOptions
from abliterate.records.option import Declaration

COMPARING = flags(
    "dtype", "device", "max_memory", "batch_size", "offline", "trust_remote_code",
    model=Declaration("What all are held against.", argument=True, flag="original"),
)  # fmt: skip

MEASURING = flags("look_alikes", "split", "n_prompts", "reply_tokens", "text", "judge", "judge_endpoint", "judge_model")


@verb("measure")
def compare(
    options: Annotated[AskOptions, COMPARING],
    edits: Annotated[list[str], typer.Argument(metavar="EDIT...", help="Edited models.", show_default=False)],
    said: SaidConditions,
    evaluate_options: Annotated[EvaluateOptions, MEASURING],
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values on stdout.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A markdown table on stdout.")] = False,
) -> None:
    """Hold several edits of one model against it and show them in one table."""
    from abliterate.commands.compare import compare
    from abliterate.parallel.processes import Processes
    from abliterate.pipeline.conditions import settle
    from abliterate.progress import SILENT
    from abliterate.render.compared import compared, compared_csv, compared_json, compared_markdown
    from abliterate.render.evaluated import conditions

    if as_json + as_csv + markdown > 1:
        raise InputError("--json, --csv and --markdown: choose one of them")
    asked = said.on(options)
    evaluate_options.check(asked)
    settled = settle(asked, said.said, edits, asked.model)
    first = Processes.launched().first
    found = compare(settled.options, evaluate_options, edits, progress() if first else SILENT, settled)
    if not first:
        return
    if as_csv or markdown:
        print((compared_csv if as_csv else compared_markdown)(found), end="")
        for line in (conditions(found[0].settings), *(f"note: {note}" for note in found[0].notes)):
            print(line, file=sys.stderr)
    else:
        show(compared(found), compared_json(found), as_json)
