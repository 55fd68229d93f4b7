"""Verbs that train an edited model: heal. (Hardening is a mode of `run`.)"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import app, progress, show
from abliterate.cli.completion import Verb, words
from abliterate.cli.flags import AsJson, Device, Dtype, Force, Offline, Seed

# torch and transformers take seconds to import: verbs import what they need, so that --help and completion are instant.


@app.command(cls=Verb)
def heal(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="An edited model that abliterate wrote.", show_default=False)
    ],
    dataset: Annotated[
        str, typer.Option(help="Examples in trl's formats: a file or a Hub dataset, as --harmful.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the healed model.", show_default=False)],
    method: Annotated[
        str,
        typer.Option(
            autocompletion=words("method"),
            help="sft (messages, or prompt and completion) or dpo (chosen and rejected).",
        ),
    ] = "sft",
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Write the LoRA alone, not the merged checkpoint.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps. \\[default: one epoch]", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Examples, at most.", show_default=False)] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    force: Force = False,
    offline: Offline = False,
) -> None:
    """Fine-tune an edited model by SFT or DPO while the direction is kept out at every step, and prove that it is."""
    from abliterate.commands.heal import heal
    from abliterate.render.trained import healed, healed_json
    from abliterate.training.heal import HealOptions

    chosen = HealOptions(method=method, adapter=adapter, steps=steps, limit=limit, seed=seed)
    one = heal(
        folder, dataset, out, chosen, dtype=dtype, device=device, offline=offline, force=force, progress=progress()
    )
    show(healed(one), healed_json(one), as_json)
