"""`abliterate compare`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from abliterate.cli.app import app, progress, show
from abliterate.cli.completion import Verb
from abliterate.cli.evaluation_flags import (
    Judge,
    JudgeEndpoint,
    JudgeModel,
    LookAlikes,
    Prompts,
    ReplyTokens,
    Split,
    TextFile,
    wishes,
)
from abliterate.cli.flags import (
    AsJson,
    BatchSize,
    Device,
    Dtype,
    MaxMemory,
    Offline,
    RunHarmful,
    RunHarmless,
    RunSystem,
    RunTemplate,
    RunThinking,
    Trust,
)
from abliterate.errors import InputError


@app.command(cls=Verb)
def compare(
    original: Annotated[str, typer.Argument(help="What all are held against.", show_default=False)],
    edits: Annotated[list[str], typer.Argument(metavar="EDIT...", help="Edited models.", show_default=False)],
    harmful: RunHarmful = None,
    harmless: RunHarmless = None,
    look_alikes: LookAlikes = "builtin:look-alikes",
    split: Split = "report",
    n_prompts: Prompts = 100,
    reply_tokens: ReplyTokens = 128,
    text: TextFile = None,
    judge: Judge = None,
    judge_endpoint: JudgeEndpoint = None,
    judge_model: JudgeModel = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    max_memory: MaxMemory = None,
    batch_size: BatchSize = "auto",
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values on stdout.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A markdown table on stdout.")] = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    system: RunSystem = None,
    thinking: RunThinking = None,
    chat_template: RunTemplate = None,
) -> None:
    """Hold several edits of one model against it and show them in one table."""
    given = {**locals(), "model": original}
    from abliterate.commands.evaluate import evaluate_each
    from abliterate.parallel.processes import Processes
    from abliterate.pipeline.conditions import settle
    from abliterate.progress import SILENT
    from abliterate.render.compared import compared, compared_csv, compared_json, compared_markdown
    from abliterate.render.evaluated import conditions

    if as_json + as_csv + markdown > 1:
        raise InputError("--json, --csv and --markdown: choose one of them")
    evaluate_options, chosen, said = wishes(given)
    evaluate_options.check(chosen)
    settled = settle(chosen, said, edits, original)
    first = Processes.launched().first
    found = list(
        evaluate_each(settled.options, evaluate_options, edits, original, progress() if first else SILENT, settled)
    )
    if not first:
        return
    if as_csv or markdown:
        print((compared_csv if as_csv else compared_markdown)(found), end="")
        for line in (conditions(found[0].settings), *(f"note: {note}" for note in found[0].notes)):
            print(line, file=sys.stderr)
    else:
        show(compared(found), compared_json(found), as_json)
