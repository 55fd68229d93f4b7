"""Verbs that measure and show: evaluate, compare, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

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
    Offline,
    Revision,
    System,
    Template,
    Thinking,
    Trust,
    options,
)
from abliterate.errors import InputError

# torch and transformers take seconds to import: verbs import what they need, so that --help and completion are instant.

ReplyTokens = Annotated[int, typer.Option(help="Length of the replies; shorter ones are counted again from the same.")]
Prompts = Annotated[int, typer.Option("--n-prompts", help="Prompts of each kind, at most.")]
Split = Annotated[
    str, typer.Option(help="report: prompts that no run has used to find or choose an edit; all: every one of a list.")
]
LookAlikes = Annotated[
    str, typer.Option(help="Harmless prompts that sound harmful, as --harmful, for over-refusal; none for none.")
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


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="Hub id, folder, .gguf file or PEFT adapter; none with --endpoint.", show_default=False),
    ] = "",
    against: Annotated[
        str | None, typer.Option(help="The original; with --endpoint its name on the server.", show_default=False)
    ] = None,
    harmful: Harmful = "builtin:harmful",
    harmless: Harmless = "builtin:harmless",
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
    system: System = None,
    thinking: Thinking = "auto",
    chat_template: Template = None,
) -> None:
    """Measure refusals, over-refusal and incoherence, and with --against what the edit did to predictions, with tests."""
    given = locals()
    from abliterate.processes import Processes
    from abliterate.progress import SILENT
    from abliterate.render.evaluated import evaluated
    from abliterate.staging import write_whole
    from abliterate.verbs.evaluate import check_out, evaluate

    wanted, chosen = wishes(given)
    check_out(out)
    first = Processes.launched().first
    one = evaluate(chosen, wanted, against, progress() if first else SILENT)
    if not first:
        return
    if out:
        write_whole(out, json.dumps(one.to_json(), indent=1, ensure_ascii=False) + "\n")
    show(evaluated(one), one.to_json(), as_json)


@app.command()
def compare(
    original: Annotated[str, typer.Argument(help="What all are held against.", show_default=False)],
    edits: Annotated[list[str], typer.Argument(metavar="EDIT...", help="Edited models.", show_default=False)],
    harmful: Harmful = "builtin:harmful",
    harmless: Harmless = "builtin:harmless",
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
    system: System = None,
    thinking: Thinking = "auto",
    chat_template: Template = None,
) -> None:
    """Hold several edits of one model against it and show them in one table."""
    given = {**locals(), "model": original}
    from abliterate.processes import Processes
    from abliterate.progress import SILENT
    from abliterate.render.compared import compared, compared_csv, compared_json, compared_markdown
    from abliterate.verbs.evaluate import evaluate_each

    if as_json + as_csv + markdown > 1:
        raise InputError("--json, --csv and --markdown: choose one of them")
    wanted, chosen = wishes(given)
    wanted.check(chosen)
    first = Processes.launched().first
    found = list(evaluate_each(chosen, wanted, edits, original, progress() if first else SILENT))
    if not first:
        return
    if as_csv or markdown:
        print((compared_csv if as_csv else compared_markdown)(found), end="")
    else:
        show(compared(found), compared_json(found), as_json)


@app.command()
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
    """Turn the flags of a verb that evaluates into (Wanted, Options)."""
    from dataclasses import fields

    from abliterate.options import Options
    from abliterate.verbs.wanted import SPLITS, Wanted

    how = {field.name: given[field.name] for field in fields(Wanted) if field.name in given}
    if how["split"] not in SPLITS:
        raise InputError(f"--split {how['split']}: choose among {', '.join(SPLITS)}")
    how["tasks"] = tuple(task.strip() for task in (how.get("tasks") or "").split(",") if task.strip())
    how["look_alikes"] = None if how["look_alikes"] == "none" else how["look_alikes"]
    known = {field.name for field in fields(Options)} - {"model", "out"}
    chosen = options(given["model"], Path(), **{name: given[name] for name in known if name in given})
    return Wanted(**how), chosen
