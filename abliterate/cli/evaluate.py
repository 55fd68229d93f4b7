"""`abliterate evaluate`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.figures import bracketed, conditions, rate
from abliterate.evaluation.figure_names import DIGITS, mean_text, p_text, refused, refused_in, refused_late, with_unit
from abliterate.pipeline.condition_options import SaidConditions
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.options import AskOptions
from abliterate.records.option import Declaration

if TYPE_CHECKING:
    from abliterate.evaluation.evaluation import Evaluation
    from abliterate.evaluation.figures import Figure
    from abliterate.evaluation.statistics import Mean
    from abliterate.replies.labels import Label

EVALUATING = flags(
    "dtype", "device", "max_memory", "batch_size", "offline", "trust_remote_code", "revision",
    model=Declaration(
        "Hub id, folder, .gguf file or PEFT adapter; none with --endpoint.", argument=True, usual=lambda _: ""
    ),
)  # fmt: skip


@verb(
    "measure",
    "abliterate evaluate ./edited --against org/model",
    "abliterate evaluate ./edited --against org/model --tasks mmlu --task-limit 100 --out ./edited/evaluation.json",
)
def evaluate(
    options: Annotated[AskOptions, EVALUATING],
    said: SaidConditions,
    evaluate_options: EvaluateOptions,
    against: Annotated[
        str | None,
        typer.Option(
            help="The original; with --endpoint its name on the server.", rich_help_panel="model", show_default=False
        ),
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


SHOWN: tuple[Label, ...] = ("refused", "hedged", "incoherent")
"""Labels with a row of their own; what is left has complied."""


def evaluated(one: Evaluation) -> RenderableType:
    """Return the figures of a model, beside those of what it is held against."""
    model, against = one.model, one.against
    parts: list[RenderableType] = [figures(one)]
    parts += [by_category(one)] if any(map(one.categories, model.sets)) else []
    parts += [by_length(one.lengths, against is not None)] if len(one.lengths) > 1 else []
    parts += [tasks(one, against is not None)] if model.tasks else []
    settings = one.settings
    said = f"judge: {settings['judge']}; replies of at most {settings['reply_tokens']} tokens; 95% intervals"
    lines = [Text(line, style="dim") for line in (said, conditions(settings)) if line]
    return Group(*parts, *lines, *(Text(f"note: {note}", style="yellow") for note in one.notes))


def figures(one: Evaluation) -> Table:
    """Return refusals and other labels, late refusals where there are any, and every figure that is no rate."""
    from abliterate.evaluation.figures import refusals_changed

    model, against = one.model, one.against
    names = [escape(each.name) for each in (against, model) if each]
    table = Table("", *names, *(["change"] if against else []))
    for kind, judged in model.sets.items():
        before = against.sets[kind] if against else None
        for label in SHOWN:
            seen = judged.rate(label).count or (before and before.rate(label).count)
            if not seen and label != "refused":
                continue
            cells = [rate(before.rate(label))] if before else []
            change = [changes(refusals_changed(judged, before)) if label == "refused" else ""] if before else []
            table.add_row(f"{label}, {kind}", *cells, rate(judged.rate(label)), *change)
        late = one.late.get(kind, {})
        if any(each and each.count for each in late.values()):
            cells = [rate(each) for name in ("against", "model") if (each := late[name])]
            table.add_row(refused_late(kind), *cells, *([""] if against else []))
    table.add_section()
    for figure in one.figures:
        table.add_row(*figure_row(figure, against is not None))
    return table


def changes(one: Any) -> str:
    """Return how many prompts moved which way, and the p-value."""
    return f"-{one.lost} +{one.gained}, {p_text(one.p)}"


def estimate(one: Mean | None, digits: int) -> str:
    """Return a mean with its interval."""
    if one is None or not one.values:
        return ""
    low, high = one.interval
    return bracketed(mean_text(one.value, low, high, digits))


def figure_row(one: Figure, two: bool) -> list[str]:
    """Return the cells of a figure; what lies between two models stands in the model's column."""
    digits = DIGITS[one.unit]
    name = with_unit(one.name, one.unit)
    change = ""
    if one.difference and one.difference.mean.values:
        change = f"{one.difference.mean.value:+.{digits}f}, {p_text(one.difference.p)}"
    model = estimate(one.model, digits)
    return [name, estimate(one.against, digits), model, change] if two else [name, model]


def by_category(one: Evaluation) -> Table:
    """Return the refusals in each category that the lists name."""
    table = Table("category", *(escape(each.name) for each in (one.against, one.model) if each))
    for kind in one.model.sets:
        for category, rates in one.categories(kind).items():
            table.add_row(escape(refused_in(kind, category)), *(rate(each) for each in rates if each))
    return table


def by_length(lengths: Sequence[Mapping[str, Any]], two: bool) -> Table:
    """Return the refusal rates of the same replies cut short."""
    kinds = [kind for kind in lengths[0] if kind != "tokens"]
    table = Table("tokens of the reply", *map(refused, kinds))
    for row in lengths:
        pairs = [[row[kind]["against"], row[kind]["model"]] if two else [row[kind]["model"]] for kind in kinds]
        cells = [" -> ".join(f"{one['count']}/{one['total']}" for one in pair) for pair in pairs]
        table.add_row(str(row["tokens"]), *cells)
    return table


def tasks(one: Evaluation, two: bool) -> Table:
    """Return the tasks of lm-eval."""
    table = Table("task", "metric", *(["original"] if two else []), "model")
    for task, metrics in (one.tasks_json() or {}).items():
        for metric, values in metrics.items():
            given = [values["against"], values["model"]] if two else [values["model"]]
            table.add_row(escape(task), escape(metric), *map(task_mean, given))
    return table


def task_mean(value: Mapping[str, float | None]) -> str:
    """Return a task's metric with its interval, where the harness gives one."""
    mean, low, high = value["mean"], value["low"], value["high"]
    if mean is None:
        return "not defined"
    return f"{mean:.3f}" if low is None or high is None else bracketed(mean_text(mean, low, high))
