"""`abliterate export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.figures import proof_line, size
from abliterate.exports.forms import EXPORT_FORMS
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.options import Options
from abliterate.records.option import Declaration

if TYPE_CHECKING:
    from abliterate.commands.export import Exported

EXPORTING = flags(
    "dtype", "device", "max_memory", "force", "offline", "trust_remote_code", "allow_unproved", "revision", "keep_paths",
    model=Declaration("The original. \\[default: the Hub id that the manifest names]", usual=lambda _: ""),
    out=Declaration("Folder for a PEFT adapter, file for the others.", read=Path, kind=Path),
)  # fmt: skip


@verb(
    "ship",
    "abliterate export ./edited --to adapter --out ./adapter",
    "abliterate export ./edited --to gguf-adapter --out ./edited.gguf",
)
def export(
    export_options: ExportOptions,
    options: Annotated[Options, EXPORTING],
    as_json: AsJson = False,
) -> None:
    """Write an edit as a PEFT adapter, an adapter for llama.cpp, or a control vector."""
    from abliterate.commands.export import export

    one = export(export_options, options, progress())
    show(exported(one), exported_json(one), as_json)


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
