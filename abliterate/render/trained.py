"""What `harden` and `heal` show."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.commands.harden import Hardened
from abliterate.commands.heal import Healed
from abliterate.render.figures import rate


def hardened(one: Hardened) -> RenderableType:
    """Return refusals as it is and under the edit, before and after."""
    before, after = one.result.before, one.result.after
    table = Table("refusals", "before", "hardened", title="harden", title_justify="left")
    table.add_row("harmful", rate(before.harmful), rate(after.harmful))
    table.add_row("harmful, edited", rate(before.edited), rate(after.edited))
    table.add_row("harmless", rate(before.harmless), rate(after.harmless))
    table.add_row("harmless, edited", rate(before.edited_harmless), rate(after.edited_harmless))
    said = f"the edit finds its direction anew each time; harmless replies that are the same: {rate(after.same)}"
    return Group(table, Text.from_markup(said), Text(f"adapter  {one.out}"))


def hardened_json(one: Hardened) -> dict[str, Any]:
    """Return settings and figures as JSON."""
    return {"out": str(one.out), **one.result.to_json()}


def healed(one: Healed) -> RenderableType:
    """Return the loss on what was not learned, and the proof that the direction is still out."""
    training, proof = one.training, one.proof
    facts = Table.grid(padding=(0, 2))
    learned = f"{training.examples} examples in {training.steps} steps, {training.held_out} held out"
    facts.add_row("trained", learned)
    facts.add_row("held-out loss", f"{training.loss_before:.3f} -> {training.loss_after:.3f}")
    silent = f"; the stream at most {max(proof.per_layer):.1e} along it" if proof.per_layer else ""
    facts.add_row(
        "proof", f"the direction is still out: moved by {proof.drift:.1e}, rounding explains {proof.limit:.1e}{silent}"
    )
    facts.add_row("written", Text(str(one.out)))
    return facts


def healed_json(one: Healed) -> dict[str, Any]:
    """Return training and proof as JSON."""
    return {"out": str(one.out), "training": asdict(one.training), "proof": asdict(one.proof)}
