"""Flags of the verbs that evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from abliterate.cli.completion import words
from abliterate.cli.flags import (
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


def wishes(given: dict[str, Any]) -> Any:
    """Turn the flags of a verb that evaluates into (Wanted, Options, the conditions that were given)."""
    from dataclasses import fields

    from abliterate.pipeline.conditions import CONDITIONS
    from abliterate.pipeline.evaluate_options import MEASURED_SPLITS, EvaluateOptions
    from abliterate.pipeline.options import Options

    how = {field.name: given[field.name] for field in fields(EvaluateOptions) if field.name in given}
    if how["split"] not in MEASURED_SPLITS:
        raise InputError(f"--split {how['split']}: choose among {', '.join(MEASURED_SPLITS)}")
    how["tasks"] = tuple(task.strip() for task in (how.get("tasks") or "").split(",") if task.strip())
    how["look_alikes"] = None if how["look_alikes"] == "none" else how["look_alikes"]
    known = {field.name for field in fields(Options)} - {"model", "out"}
    said = {name for name in CONDITIONS if given[name] is not None}
    known -= set(CONDITIONS) - said
    chosen = options(given["model"], Path(), **{name: given[name] for name in known if name in given})
    return EvaluateOptions(**how), chosen, said
