"""Verbs that measure and show: evaluate, compare, report."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from abliterate.cli.app import app, progress, show
from abliterate.cli.completion import Verb
from abliterate.cli.evaluation_flags import (
    Concurrency,
    Judge,
    JudgeEndpoint,
    JudgeModel,
    LookAlikes,
    Prompts,
    ReplyTokens,
    Save,
    ServedModel,
    Server,
    Split,
    TaskLimit,
    Tasks,
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
    Revision,
    RunHarmful,
    RunHarmless,
    RunSystem,
    RunTemplate,
    RunThinking,
    Trust,
)


@app.command(cls=Verb)
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="Hub id, folder, .gguf file or PEFT adapter; none with --endpoint.", show_default=False),
    ] = "",
    against: Annotated[
        str | None, typer.Option(help="The original; with --endpoint its name on the server.", show_default=False)
    ] = None,
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
    endpoint: Server = None,
    served_model: ServedModel = None,
    concurrency: Concurrency = 8,
    tasks: Tasks = None,
    task_limit: TaskLimit = None,
    out: Save = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    max_memory: MaxMemory = None,
    batch_size: BatchSize = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    revision: Revision = None,
    system: RunSystem = None,
    thinking: RunThinking = None,
    chat_template: RunTemplate = None,
) -> None:
    """Measure refusals, over-refusal and incoherence, and with --against what the edit did to predictions, with tests."""
    given = locals()
    from abliterate.commands.evaluate import check_out, evaluate
    from abliterate.parallel.processes import Processes
    from abliterate.pipeline.conditions import settle
    from abliterate.progress import SILENT
    from abliterate.render.evaluated import evaluated
    from abliterate.storage.atomic import write_text_whole

    evaluate_options, chosen, said = wishes(given)
    evaluate_options.check(chosen)
    check_out(out)
    served = endpoint is not None
    settled = settle(chosen, said, [] if served else [model], None if served else against)
    first = Processes.launched().first
    one = evaluate(settled.options, evaluate_options, against, progress() if first else SILENT, settled)
    if not first:
        return
    if out:
        write_text_whole(out, json.dumps(one.to_json(), indent=1, ensure_ascii=False) + "\n")
    show(evaluated(one), one.to_json(), as_json)
