"""What `compare` shows: one line for each edit, for people, spreadsheets, papers and programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from abliterate.evaluation.evaluation import Evaluation, Examined
from abliterate.evaluation.statistics import Mean, Rate
from abliterate.render.evaluated import conditions

FIGURES = ("KL, last prompt token", "KL, over the original's replies", "top-1 agreement", "cross-entropy, text")
"""Figures that have a column."""


def columns(found: Sequence[Evaluation]) -> list[tuple[str, list[Rate | Mean | None]]]:
    """Return the heading and the estimates of each column: the original's first, then each edit's."""
    original = found[0].against
    assert original is not None
    models: list[tuple[Examined, Evaluation | None]] = [(original, None), *((one.model, one) for one in found)]
    table: list[tuple[str, list[Rate | Mean | None]]] = [
        (f"refused, {kind}", [examined.refusals(kind) for examined, _ in models]) for kind in original.sets
    ]
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
    rates = [judged.rate(label) for judged in one.sets.values()]
    return Rate(sum(rate.count for rate in rates), sum(rate.total for rate in rates))


def names(found: Sequence[Evaluation]) -> list[str]:
    """Return the name of the original and of each edit."""
    assert found[0].against is not None
    return [found[0].against.name, *(one.model.name for one in found)]


def cell(one: Rate | Mean | None) -> str:
    """Return an estimate with its interval."""
    if one is None or (isinstance(one, Mean) and not one.values):
        return ""
    low, high = one.interval
    if isinstance(one, Rate):
        return f"{one.count}/{one.total} [{low:.0%}, {high:.0%}]"
    return f"{one.value:.3f} [{low:.3f}, {high:.3f}]"


def compared(found: Sequence[Evaluation]) -> RenderableType:
    """Return the table: a column for each model where they are few, since names and intervals are long."""
    table = Table("", *(escape(name) for name in names(found)))
    for heading, estimates in columns(found):
        table.add_row(heading, *(escape(cell(one)) for one in estimates))
    lines = [Text(line, style="dim") for line in (conditions(found[0].settings),) if line]
    return Group(table, *lines, *(Text(f"note: {note}", style="yellow") for note in found[0].notes))


def compared_markdown(found: Sequence[Evaluation]) -> str:
    """Return the table as markdown, a row for each model."""
    table = columns(found)
    lines = [["model", *(heading for heading, _ in table)], ["---"] * (1 + len(table))]
    for place, name in enumerate(names(found)):
        lines.append([name.replace("|", r"\|"), *(cell(estimates[place]) for _, estimates in table)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def compared_csv(found: Sequence[Evaluation]) -> str:
    """Return the table as comma-separated values: each estimate with the ends of its interval, a row for each model."""
    table = columns(found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("", " low", " high")
    writer.writerow(["model", *(f"{heading}{end}" for heading, _ in table for end in ends)])
    for place, name in enumerate(names(found)):
        cells: list[Any] = [name]
        for _, estimates in table:
            one = estimates[place]
            empty = one is None or (isinstance(one, Mean) and not one.values)
            cells += ["", "", ""] if empty or one is None else [one.value, *one.interval]
        writer.writerow(cells)
    return text.getvalue()


def compared_json(found: Sequence[Evaluation]) -> dict[str, Any]:
    """Return every evaluation, replies included."""
    return {"evaluations": [one.to_json() for one in found]}
