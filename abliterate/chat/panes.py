"""How replies look: side by side where there is room, else one below the other."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.chat.conversation import ChatReply
from abliterate.chat.sides import ChatSide
from abliterate.chat.text import harmless

WIDE = 100
"""Columns of a terminal from which on two replies stand side by side."""

GAP = 4

WHY = {"length": "cut at --max-new-tokens", "context": "the context is full; /reset", "stopped": "stopped"}


def panes(
    sides: Sequence[ChatSide], replies: Sequence[ChatReply], console: Console, rows: int | None = None
) -> RenderableType:
    """Return one turn's replies; with `rows`, only the last lines of each, so that all fits so many."""
    beside = len(sides) > 1 and console.width >= WIDE
    width = (console.width - GAP) // 2 if beside else console.width
    each = None if rows is None else max(1, rows // (1 if beside else len(sides)) - 3)
    own = [pane(side, reply, console, width, each, len(sides) > 1) for side, reply in zip(sides, replies, strict=True)]
    if not beside:
        return Group(*own)
    columns = Table.grid(padding=(0, GAP, 0, 0))
    for _ in own:
        columns.add_column(width=width)
    columns.add_row(*own)
    return columns


def pane(
    side: ChatSide, reply: ChatReply, console: Console, width: int, rows: int | None, titled: bool
) -> RenderableType:
    """Return one reply under its title, a verdict below it once it has ended."""
    shown = body(reply)
    if rows is not None:
        shown = Text("\n").join(shown.wrap(console, width, overflow="fold")[-rows:])
    title = Text.assemble((side.role, "bold"), (f"  {harmless(side.name)}", "dim"), no_wrap=True, overflow="ellipsis")
    return Group(*([title] if titled else []), shown, Text(verdict(reply), style="dim"), Text(""))


def body(reply: ChatReply) -> Text:
    """Return what was said, a thought before the answer dim; never read as markup, and without control characters."""
    answer = reply.answer
    whole, said = harmless(reply.text).strip(), harmless(answer).strip()
    if not whole and not reply.ended:
        return Text("…", style="dim")
    if said == whole:
        return Text(said)
    thought = whole[: whole.rfind(said)] if said else whole
    return Text.assemble((thought, "dim"), said)


def verdict(reply: ChatReply) -> str:
    """Return what is to be said of a reply that has ended."""
    if not reply.ended:
        return ""
    notes = [*(["refusal"] if reply.refused else []), *([WHY[reply.ended]] if reply.ended in WHY else [])]
    return " · ".join([*notes, f"{len(reply.tokens)} tokens"])
