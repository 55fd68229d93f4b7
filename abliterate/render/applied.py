"""What `apply` shows: the proof of a written checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.commands.apply import Applied
from abliterate.render.figures import proof_line


def applied(one: Applied) -> RenderableType:
    """Return what the proof says of a written checkpoint."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("edited", f"{len(one.tensors)} tensors as planned")
    facts.add_row("untouched", f"{one.untouched} tensors, bit for bit")
    facts.add_row("proof", proof_line(one.proof))
    facts.add_row("checkpoint", Text(str(one.out)))
    return Group(facts, *(Text(f"note: {note}", style="yellow") for note in one.notes))


def applied_json(one: Applied) -> dict[str, Any]:
    """Return a proof as JSON."""
    tensors = [asdict(report) for report in one.tensors]
    return {
        "out": str(one.out),
        "edited": tensors,
        "untouched": one.untouched,
        "proof": one.proof.to_json(),
        "notes": list(one.notes),
    }
