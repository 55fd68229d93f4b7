"""`abliterate heal`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.next_steps import say_next
from abliterate.pipeline.options import Options
from abliterate.records.option import Declaration
from abliterate.training.heal_options import HealOptions

if TYPE_CHECKING:
    from abliterate.commands.heal import Healed

HEALING = flags(
    "dtype", "device", "force", "offline", "revision", "keep_paths",
    model=Declaration("An edited model that abliterate wrote.", argument=True, flag="folder", metavar="DIR"),
    out=Declaration("Folder for the healed model.", read=Path, kind=Path),
)  # fmt: skip


@verb(
    "edit",
    "abliterate heal ./edited --dataset examples.jsonl --out ./healed",
    "abliterate heal ./edited --dataset org/dataset --method dpo --adapter --out ./healed",
)
def heal(
    options: Annotated[Options, HEALING],
    dataset: Annotated[
        str,
        typer.Option(
            help="Examples in trl's formats: a file or a Hub dataset, as --harmful.",
            rich_help_panel="training",
            show_default=False,
        ),
    ],
    heal_options: HealOptions,
    as_json: AsJson = False,
) -> None:
    """Fine-tune an edited model by SFT or DPO while the direction is kept out at every step, and prove that it is."""
    from abliterate.commands.heal import heal

    one = heal(
        options.model,
        dataset,
        options.out,
        heal_options,
        dtype=options.dtype,
        device=options.device,
        offline=options.offline,
        revision=options.revision,
        force=options.force,
        keep_paths=options.keep_paths,
        progress=progress(),
    )
    show(healed(one), healed_json(one), as_json)
    say_next(one.out, as_json)


def healed(one: Healed) -> RenderableType:
    """Return the loss on what was not learned, and the proof that the direction is still out."""
    from abliterate.records.training_card import unchanged_text

    training, proof = one.training, one.proof
    facts = Table.grid(padding=(0, 2))
    learned = f"{training.examples} examples in {training.steps} steps, {training.held_out} held out"
    facts.add_row("trained", learned)
    facts.add_row("held-out loss", f"{training.loss_before:.3f} -> {training.loss_after:.3f}")
    if said := unchanged_text({"kind": "healed", "training": asdict(training)}):
        facts.add_row("", Text(said, style="yellow"))
    silent = f"; the stream at most {max(proof.per_layer):.1e} along it" if proof.per_layer else ""
    facts.add_row(
        "proof", f"the direction is still out: moved by {proof.drift:.1e}, rounding explains {proof.limit:.1e}{silent}"
    )
    facts.add_row("written", Text(str(one.out)))
    return facts


def healed_json(one: Healed) -> dict[str, Any]:
    """Return training and proof as JSON."""
    return {"out": str(one.out), "training": asdict(one.training), "proof": asdict(one.proof)}
