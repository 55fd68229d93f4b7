"""Verbs that measure and show: evaluate, compare, report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from abliterate.cli.app import app, progress, show
from abliterate.cli.completion import Verb, words
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
    options,
)
from abliterate.errors import InputError

# torch and transformers take seconds to import: verbs import what they need, so that --help and completion are instant.

ReplyTokens = Annotated[int, typer.Option(help="Length of the replies; shorter ones are counted again from the same.")]
Prompts = Annotated[int, typer.Option("--n-prompts", help="Prompts of each kind, at most.")]
Split = Annotated[
    str,
    typer.Option(
        autocompletion=words("split"),
        help="report: prompts that no run has used to find or choose an edit; all: every one of a list.",
    ),
]
LookAlikes = Annotated[
    str,
    typer.Option(
        autocompletion=words("prompts"),
        help="Harmless prompts that sound harmful, as --harmful, for over-refusal; none for none.",
    ),
]
TextFile = Annotated[
    Path | None, typer.Option("--text", help="A text file on which to take the cross-entropy.", show_default=False)
]
Judge = Annotated[
    str | None,
    typer.Option(
        help="Let a sequence classifier for refusals decide: Hub id or folder. \\[default: the rules]",
        show_default=False,
    ),
]
JudgeEndpoint = Annotated[
    str | None, typer.Option(help="Let a model on an OpenAI-compatible server decide.", show_default=False)
]
JudgeModel = Annotated[str | None, typer.Option(help="Its name there. \\[default: the only one]", show_default=False)]
Server = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        help="Ask an OpenAI-compatible server (vLLM, SGLang, llama.cpp) for the replies; its key: OPENAI_API_KEY.",
        show_default=False,
    ),
]
ServedModel = Annotated[
    str | None, typer.Option(help="The model's name on the server. \\[default: the only one]", show_default=False)
]
Concurrency = Annotated[int, typer.Option(help="Requests to a server at once.")]
Tasks = Annotated[
    str | None,
    typer.Option(help="Tasks of lm-eval by commas, by name or .yaml file, such as mmlu,gsm8k.", show_default=False),
]
TaskLimit = Annotated[int | None, typer.Option(help="Examples of each task, at most.", show_default=False)]
Save = Annotated[
    Path | None,
    typer.Option("--out", help="Also write it here; DIR/evaluation.json is read by report.", show_default=False),
]


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
    from abliterate.storage.atomic import write_whole

    wanted, chosen, said = wishes(given)
    wanted.check(chosen)
    check_out(out)
    served = endpoint is not None
    settled = settle(chosen, said, [] if served else [model], None if served else against)
    first = Processes.launched().first
    one = evaluate(settled.options, wanted, against, progress() if first else SILENT, settled)
    if not first:
        return
    if out:
        write_whole(out, json.dumps(one.to_json(), indent=1, ensure_ascii=False) + "\n")
    show(evaluated(one), one.to_json(), as_json)


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
    wanted, chosen, said = wishes(given)
    wanted.check(chosen)
    settled = settle(chosen, said, edits, original)
    first = Processes.launched().first
    found = list(evaluate_each(settled.options, wanted, edits, original, progress() if first else SILENT, settled))
    if not first:
        return
    if as_csv or markdown:
        print((compared_csv if as_csv else compared_markdown)(found), end="")
        for line in (conditions(found[0].settings), *(f"note: {note}" for note in found[0].notes)):
            print(line, file=sys.stderr)
    else:
        show(compared(found), compared_json(found), as_json)


@app.command(cls=Verb)
def report(
    folder: Annotated[Path, typer.Argument(help="A folder that abliterate wrote.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The page. \\[default: FOLDER/report.html]", show_default=False)
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write one HTML page about an edit: figures, geometry, choice, front, replies side by side, proof."""
    from abliterate.report.page import write_report

    page = write_report(folder, out)
    print(page)
    if open_page:
        typer.launch(page.absolute().as_uri())


def wishes(given: dict[str, Any]) -> Any:
    """Turn the flags of a verb that evaluates into (Wanted, Options, the conditions that were given)."""
    from dataclasses import fields

    from abliterate.commands.evaluate_options import SPLITS, Wanted
    from abliterate.pipeline.conditions import CONDITIONS
    from abliterate.pipeline.options import Options

    how = {field.name: given[field.name] for field in fields(Wanted) if field.name in given}
    if how["split"] not in SPLITS:
        raise InputError(f"--split {how['split']}: choose among {', '.join(SPLITS)}")
    how["tasks"] = tuple(task.strip() for task in (how.get("tasks") or "").split(",") if task.strip())
    how["look_alikes"] = None if how["look_alikes"] == "none" else how["look_alikes"]
    known = {field.name for field in fields(Options)} - {"model", "out"}
    said = {name for name in CONDITIONS if given[name] is not None}
    known -= set(CONDITIONS) - said
    chosen = options(given["model"], Path(), **{name: given[name] for name in known if name in given})
    return Wanted(**how), chosen, said
