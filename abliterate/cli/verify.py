"""`abliterate verify`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.figures import proof_line
from abliterate.pipeline.options import ModelOptions
from abliterate.records.option import Declaration

if TYPE_CHECKING:
    from abliterate.commands.verify import Verified
    from abliterate.proofs.tensors import Verdict

VERIFYING = flags(
    "dtype", "device", "max_memory", "offline", "trust_remote_code", "revision",
    model=Declaration("The source: Hub id, folder or .gguf file.", argument=True, flag="original"),
)  # fmt: skip


@verb("measure", "abliterate verify org/model ./edited", "abliterate verify org/model ./edited --json")
def verify(
    options: Annotated[ModelOptions, VERIFYING],
    edited: Annotated[Path, typer.Argument(help="A folder that abliterate wrote.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Prove again, from the files, that EDITED is ORIGINAL edited by its recipe; exit code 1 when it is not."""
    from abliterate.commands.verify import verify

    one = verify(options.model, edited, options, progress())
    show(verified(one), verified_json(one), as_json)
    if not one.holds:
        raise typer.Exit(1)


SHOWN = 20
"""Tensors that are not as planned are listed one by one, up to so many; `--json` has them all."""


def verified(one: Verified) -> RenderableType:
    """Return how many tensors are untouched, as planned, other; the edited ones by name pattern; the others one by one."""
    edited, others = one.of_status("edited"), one.of_status("other")
    facts = Table.grid(padding=(0, 2))
    facts.add_row("untouched", f"{len(one.of_status('untouched'))} tensors, bit for bit")
    facts.add_row("edited", f"{len(edited)} tensors as planned")
    facts.add_row("other", Text(f"{len(others)} tensors", style="bold red" if others else ""))
    stream = proof_line(one.proof) if one.proof else "not run: the tensors are not as planned"
    facts.add_row("proof", Text(stream, style="" if one.holds else "red"))
    facts.add_row("checkpoint", Text(str(one.edited)))
    parts: list[RenderableType] = [edited_table(edited)] if edited else []
    parts += [facts, *(Text(f"note: {note}", style="yellow") for note in one.notes)]
    if others:
        parts += [Text(), *map(other_line, others[:SHOWN])]
    if len(others) > SHOWN:
        parts.append(Text(f"... and {len(others) - SHOWN} more; --json lists them all", style="red"))
    return Group(*parts)


def edited_table(edited: Sequence[Verdict]) -> Table:
    """Return a line for each pattern of names: how much of the tensors lay along the direction, and lies now."""
    table = Table("edited tensors", "", "along the direction", "after", "largest after")
    table.columns[0].overflow = "fold"  # a name that is cut says nothing
    for column in table.columns[1:]:
        column.justify = "right"
    groups: dict[str, list[Verdict]] = {}
    for verdict in (verdict for verdict in edited if verdict.report):  # the scales of quantised weights have none
        groups.setdefault(pattern(verdict.name), []).append(verdict)
    for name, members in groups.items():
        reports = [verdict.report for verdict in members if verdict.report]
        before = share((report.component_before, report.norm_before) for report in reports)
        after = share((report.component_after, report.norm_before) for report in reports)
        largest = max(share([(report.component_after, report.norm_before)]) for report in reports)
        shown = members[0].name if len(members) == 1 else name
        table.add_row(Text(shown), str(len(members)), f"{before:.1e}", f"{after:.1e}", f"{largest:.1e}")
    table.caption = "Frobenius norm of the component, relative to that of the original tensors"
    table.caption_justify = "left"
    return table


def share(pairs: Iterable[tuple[float, float]]) -> float:
    """Return the length of all components together relative to that of all tensors."""
    squares = [(part**2, whole**2) for part, whole in pairs]
    whole = sum(square for _, square in squares)
    return float((sum(square for square, _ in squares) / whole) ** 0.5) if whole else 0.0


def other_line(verdict: Verdict) -> Text:
    """Return a tensor that is not as planned and what is wrong, on a line: a table would cut the name."""
    line = Text.assemble((verdict.name, "red"), f": {verdict.problem}")
    if verdict.report:
        before, after = verdict.report.component_before, verdict.report.component_after
        line.append(f" (along the direction {before:.1e}, after {after:.1e})")
    return line


def pattern(name: str) -> str:
    """Return a name with `*` for every number in it: the same tensor of every layer and expert is one line."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


def verified_json(one: Verified) -> dict[str, Any]:
    """Return every tensor with its status, and the proof, as JSON."""
    counts = {status: len(one.of_status(status)) for status in ("untouched", "edited", "other")}
    return {
        "original": one.original,
        "edited": str(one.edited),
        "holds": one.holds,
        "counts": counts,
        "tensors": [tensor_json(verdict) for verdict in one.verdicts],
        "proof": one.proof.to_json() if one.proof else None,
        "notes": list(one.notes),
    }


def tensor_json(verdict: Verdict) -> dict[str, Any]:
    """Return one tensor: name, status, what is wrong if anything, norms and components of planned ones."""
    figures = asdict(verdict.report) if verdict.report else {}
    return {"name": verdict.name, "status": verdict.status, "problem": verdict.problem or None} | figures
