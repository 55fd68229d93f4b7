"""`abliterate heal`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.pipeline.options import Options
from abliterate.records.option import Declaration
from abliterate.training.heal_options import HealOptions

HEALING = flags(
    "dtype", "device", "force", "offline",
    model=Declaration("An edited model that abliterate wrote.", argument=True, flag="folder", metavar="DIR"),
    out=Declaration("Folder for the healed model.", read=Path, kind=Path),
)  # fmt: skip


@verb("edit")
def heal(
    options: Annotated[Options, HEALING],
    dataset: Annotated[
        str, typer.Option(help="Examples in trl's formats: a file or a Hub dataset, as --harmful.", show_default=False)
    ],
    heal_options: HealOptions,
    as_json: AsJson = False,
) -> None:
    """Fine-tune an edited model by SFT or DPO while the direction is kept out at every step, and prove that it is."""
    from abliterate.commands.heal import heal
    from abliterate.render.trained import healed, healed_json

    one = heal(
        options.model,
        dataset,
        options.out,
        heal_options,
        dtype=options.dtype,
        device=options.device,
        offline=options.offline,
        force=options.force,
        progress=progress(),
    )
    show(healed(one), healed_json(one), as_json)
