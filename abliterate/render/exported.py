"""What `export` shows: the file, its size, its proof, and how it is used."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.commands.export import Exported
from abliterate.exports.forms import EXPORT_FORMS
from abliterate.render.figures import proof_line, size


def exported(one: Exported) -> RenderableType:
    """Return the facts about an exported edit."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("written", Text(f"{one.out}, {size(one.nbytes)}"))
    if one.proof:
        facts.add_row("proof", f"with it, the original {proof_line(one.proof)}")
    facts.add_row("use", Text(EXPORT_FORMS[one.kind].use.format(out=str(one.out))))
    return Group(facts, *(Text(f"note: {note}", style="yellow") for note in one.notes))


def exported_json(one: Exported) -> dict[str, Any]:
    """Return them as JSON."""
    return {
        "out": str(one.out),
        "kind": one.kind,
        "bytes": one.nbytes,
        "proof": one.proof.to_json() if one.proof else None,
        "notes": list(one.notes),
    }
