"""`abliterate architectures`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson
from abliterate.cli.terminal import say

if TYPE_CHECKING:
    from abliterate.proofs.census import CensusStatus, Entry


@verb("look", "abliterate architectures", "abliterate architectures llama qwen3 --json")
def architectures(
    types: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TYPE]...", help="Model types, such as llama; all by default.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table of docs/architectures.md.")] = False,
) -> None:
    """Prove every architecture of the installed transformers on a small clone, and list which are supported."""
    from abliterate.commands.architectures import architectures

    entries = architectures(types or (), progress())
    if markdown:
        say(architectures_markdown(entries))
        return
    show(architectures_table(entries), architectures_json(entries), as_json)


def architectures_table(entries: Sequence[Entry]) -> RenderableType:
    """Return the list of architectures, and below it the reasons why some are refused."""
    table = Table("model type", "status", "writers a layer", "gains", "experts", "left of the stream")
    reasons = Table.grid(padding=(0, 2))
    for entry in entries:
        proved = entry.status == "proved"
        table.add_row(
            entry.model_type,
            entry.status,
            str(entry.writers) if proved else "",
            "yes" if entry.gains else "",
            entry.experts,
            f"{entry.leak:.0e}" if entry.leak is not None else "",
            style="" if proved else "red" if entry.status == "refused" else "dim",
        )
        if entry.status == "refused":
            reasons.add_row(Text(entry.model_type, style="red"), Text(entry.reason))
    counts = Counter(entry.status for entry in entries)
    return Group(table, reasons, Text(", ".join(f"{count} {status}" for status, count in counts.items())))


def architectures_markdown(entries: Sequence[Entry]) -> str:
    """Return the list as docs/architectures.md holds it: model types by what their layers hold, and why some are not supported."""
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        groups.setdefault((entry.status, summary(entry)), []).append(f"`{entry.model_type}`")
    from abliterate.proofs.census import CensusStatus

    order = get_args(CensusStatus)
    rows = sorted(groups.items(), key=lambda group: (order.index(group[0][0]), -len(group[1]), group[0][1]))
    lines = [f"transformers {version('transformers')}. {counted('Causal language models', entries, True, order)}"]
    lines[0] += f" {counted('Models with images, by their text decoder', entries, False, order)}"
    lines += ["", "| | model types |", "|---|---|"]
    lines += [f"| {status}: {what} | {', '.join(names)} |" for (status, what), names in rows]
    return "\n".join(lines)


def summary(entry: Entry) -> str:
    """Return what an entry has in common with others: what its layers hold, or the reason without place and figures."""
    if entry.status == "proved":
        held = [f"{entry.experts} experts"] if entry.experts else []
        return ", ".join([*held, "gains behind writers"] if entry.gains else held) or "plain"
    reason = re.sub(r"^[\w.-]+: ", "", entry.reason)
    return re.split(r": \d| \(|; ", reason)[0]


def counted(title: str, entries: Sequence[Entry], causal: bool, order: Sequence[CensusStatus]) -> str:
    """Return how many of a mapping's types are proved, refused, no decoders."""
    counts = Counter(entry.status for entry in entries if entry.causal is causal)
    return f"{title}: {', '.join(f'{counts[status]} {status}' for status in order)}."


def architectures_json(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the list of architectures as JSON."""
    return {"transformers": version("transformers"), "architectures": [asdict(entry) for entry in entries]}
