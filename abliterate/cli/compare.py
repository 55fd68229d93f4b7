"""`abliterate compare`."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from abliterate.chat.text import harmless
from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.figures import conditions
from abliterate.cli.terminal import note, say
from abliterate.errors import InputError
from abliterate.evaluation.figure_names import (
    AGREEMENT,
    KL_LAST_TOKEN,
    KL_OVER_REPLIES,
    LOSS_ON_TEXT,
    interval_text,
    mean_text,
    percent,
    refused,
    refused_in,
)
from abliterate.pipeline.condition_options import SaidConditions
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.options import AskOptions
from abliterate.records.option import Declaration

if TYPE_CHECKING:
    from abliterate.evaluation.evaluation import Evaluation, Examined
    from abliterate.evaluation.statistics import Mean, Rate

COMPARING = flags(
    "dtype", "device", "max_memory", "batch_size", "offline", "trust_remote_code",
    model=Declaration("What all are held against.", argument=True, flag="original"),
)  # fmt: skip

MEASURING = flags("look_alikes", "split", "n_prompts", "reply_tokens", "text", "judge", "judge_endpoint", "judge_model")


@verb(
    "measure",
    "abliterate compare org/model ./edited ./milder",
    "abliterate compare org/model ./edited ./milder --markdown",
)
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
        say((compared_csv if as_csv else compared_markdown)(found), end="")
        for line in (conditions(found[0].settings), *(f"note: {note}" for note in found[0].notes)):
            note(line)
    else:
        show(compared(found), compared_json(found), as_json)


FIGURES = (KL_LAST_TOKEN, KL_OVER_REPLIES, AGREEMENT, LOSS_ON_TEXT)
"""Figures that have a column."""


def columns(found: Sequence[Evaluation]) -> list[tuple[str, list[Rate | Mean | None]]]:
    """Return the heading and the estimates of each column: the original's first, then each edit's."""
    original = found[0].against
    assert original is not None
    models: list[tuple[Examined, Evaluation | None]] = [(original, None), *((one.model, one) for one in found)]
    table: list[tuple[str, list[Rate | Mean | None]]] = [
        (refused(kind), [examined.refusals(kind) for examined, _ in models]) for kind in original.sets
    ]
    for kind in original.sets:
        held = [examined.sets[kind].by_category() for examined, _ in models]
        table += [(refused_in(kind, name), [rates.get(name) for rates in held]) for name in held[0]]
    table.append(("hedged", [overall(examined, "hedged") for examined, _ in models]))
    table.append(("incoherent", [overall(examined, "incoherent") for examined, _ in models]))
    for name in FIGURES:
        given = [one.figure(name) if one else None for _, one in models]
        if not any(given):
            continue
        first = next(figure for figure in given if figure).against
        table.append((name, [first, *(figure.model if figure else None for figure in given[1:])]))
    return table


def overall(one: Examined, label: Any) -> Rate:
    """Return how many replies of all kinds have a label."""
    from abliterate.evaluation.statistics import Rate

    rates = [judged.rate(label) for judged in one.sets.values()]
    return Rate(sum(rate.count for rate in rates), sum(rate.total for rate in rates))


def names(found: Sequence[Evaluation]) -> list[str]:
    """Return the name of the original and of each edit."""
    assert found[0].against is not None
    return [found[0].against.name, *(one.model.name for one in found)]


def cell(one: Rate | Mean | None) -> str:
    """Return an estimate with its interval."""
    from abliterate.evaluation.statistics import Mean, Rate

    if one is None or (isinstance(one, Mean) and not one.values):
        return ""
    low, high = one.interval
    if isinstance(one, Rate):
        return f"{one.count}/{one.total} {interval_text(percent(low, 0), percent(high, 0))}"
    return mean_text(one.value, low, high)


def compared(found: Sequence[Evaluation]) -> RenderableType:
    """Return the table: a column for each model where they are few, since names and intervals are long."""
    table = Table("", *(escape(name) for name in names(found)))
    for heading, estimates in columns(found):
        table.add_row(escape(heading), *(escape(cell(one)) for one in estimates))
    lines = [Text(line, style="dim") for line in (conditions(found[0].settings),) if line]
    return Group(table, *lines, *(Text(f"note: {note}", style="yellow") for note in found[0].notes))


def compared_markdown(found: Sequence[Evaluation]) -> str:
    """Return the table as markdown, a row for each model."""
    table = columns(found)
    lines = [["model", *(markdown_text(heading) for heading, _ in table)], ["---"] * (1 + len(table))]
    for place, name in enumerate(names(found)):
        lines.append([markdown_text(name), *(cell(estimates[place]) for _, estimates in table)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


MARKDOWN = re.compile(r"[\\`*|~$\[\]]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.|@(?=[\w-]+\.)", re.IGNORECASE)
"""What markdown reads as markup; an underscore only where it is not inside of a word, addresses where they become links."""


def markdown_text(text: str) -> str:
    """Return a text that stands in a cell of a markdown table and means nothing but itself there."""
    line = html.escape(harmless(text).replace("\n", LINE_END), quote=False)
    return MARKDOWN.sub(lambda found: f"\\{found.group()}", line)


FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
"""How a cell begins that a spreadsheet calculates, the wide forms of East Asia too."""

INVISIBLE = re.compile(
    r"^[\s\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]+"
)
"""What a spreadsheet may take away before it looks how a cell begins."""

LINE_END = "\u240a"
"""Stands for a line end in a cell, which is one line."""


def csv_text(text: str) -> str:
    """Return a text that a spreadsheet shows and does not calculate: a formula gets an apostrophe before it."""
    begun = INVISIBLE.sub("", text, count=1)
    formula = begun.startswith(FORMULA) or text.startswith(FORMULA)
    return "'" * formula + harmless(text).replace("\n", LINE_END)


def compared_csv(found: Sequence[Evaluation]) -> str:
    """Return the table as comma-separated values: each estimate with the ends of its interval, a row for each model."""
    from abliterate.evaluation.statistics import Mean

    table = columns(found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("", " low", " high")
    writer.writerow(["model", *(csv_text(f"{heading}{end}") for heading, _ in table for end in ends)])
    for place, name in enumerate(names(found)):
        cells: list[Any] = [csv_text(name)]
        for _, estimates in table:
            one = estimates[place]
            empty = one is None or (isinstance(one, Mean) and not one.values)
            cells += ["", "", ""] if empty or one is None else [one.value, *one.interval]
        writer.writerow(cells)
    return text.getvalue()


def compared_json(found: Sequence[Evaluation]) -> dict[str, Any]:
    """Return every evaluation, replies included."""
    return {"evaluations": [one.to_json() for one in found]}
