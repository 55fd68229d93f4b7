"""Verbs that train: harden, heal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import app, progress, show
from abliterate.cli.flags import (
    AsJson,
    Device,
    Dtype,
    Force,
    Harmful,
    Harmless,
    Model,
    Offline,
    Revision,
    Seed,
    System,
    Template,
    Thinking,
    Trust,
    options,
)

# torch and transformers take seconds to import: verbs import what they need, so that --help and completion are instant.


SETTINGS = ("steps", "learning_rate", "rank", "ablate_probability")
"""Parameters of training; the others are options of every run."""


@app.command()
def harden(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the adapter.", show_default=False)],
    harmful: Harmful = "builtin:harmful",
    harmless: Harmless = "builtin:harmless",
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 150,
    learning_rate: Annotated[float, typer.Option(help="1e-3 suits the tiny model; larger ones want less.")] = 1e-3,
    ablate_probability: Annotated[
        float, typer.Option(help="Share of the harmful rows under ablation; 0 is the control that hardens nothing.")
    ] = 0.5,
    rank: Annotated[int, typer.Option(help="Rank of the LoRA.")] = 16,
    dtype: Dtype = "auto",
    device: Device = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    force: Force = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    revision: Revision = None,
    system: System = None,
    thinking: Thinking = "auto",
    chat_template: Template = None,
) -> None:
    """Train a LoRA under random ablation of the direction, so that refusal survives the edit; measure it before and after."""
    given = {name: value for name, value in locals().items() if name not in SETTINGS and name != "as_json"}
    settings = {"steps": steps, "learning_rate": learning_rate, "rank": rank, "ablate_probability": ablate_probability}
    from abliterate.render.trained import hardened, hardened_json
    from abliterate.verbs.harden import harden_model

    one = harden_model(options(**given), settings, progress())
    show(hardened(one), hardened_json(one), as_json)


@app.command()
def heal(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="An edited model that abliterate wrote.", show_default=False)
    ],
    dataset: Annotated[
        str, typer.Option(help="Examples in trl's formats: a file or a Hub dataset, as --harmful.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the healed model.", show_default=False)],
    method: Annotated[
        str, typer.Option(help="sft (messages, or prompt and completion) or dpo (chosen and rejected).")
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
    from abliterate.render.trained import healed, healed_json
    from abliterate.training.heal import HealOptions, heal

    chosen = HealOptions(method=method, adapter=adapter, steps=steps, limit=limit, seed=seed)
    one = heal(
        folder, dataset, out, chosen, dtype=dtype, device=device, offline=offline, force=force, progress=progress()
    )
    show(healed(one), healed_json(one), as_json)
