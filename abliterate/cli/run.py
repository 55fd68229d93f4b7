"""Verbs that make and prove checkpoints: run, demo, apply, verify, push."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from abliterate.cli.app import app, progress, show
from abliterate.cli.completion import Verb
from abliterate.cli.flags import (
    OUT_NAMES,
    AblateProbability,
    AsJson,
    BatchSize,
    Device,
    Direction,
    Dtype,
    EditedDtype,
    Force,
    Harmful,
    Harmless,
    Layer,
    LearningRate,
    MaxKl,
    MaxMemory,
    Mode,
    Model,
    NTrain,
    Offline,
    Optimize,
    Out,
    Push,
    Rank,
    Revision,
    Save,
    Seed,
    Sites,
    Steps,
    Strength,
    System,
    TargetRefusals,
    Template,
    Thinking,
    Trust,
    Unproved,
    default_out,
    options,
)
from abliterate.cli.push import publish
from abliterate.errors import InputError

# torch and transformers take seconds to import: verbs import what they need, so that --help and completion are instant.


HARDENING = ("steps", "learning_rate", "rank", "ablate_probability")
"""Parameters of `--mode harden` alone."""


@app.command("run", cls=Verb, help="Find, edit, prove, measure: the default when the first argument is a model.")
def run_verb(
    model: Model,
    out: Out = None,
    mode: Mode = "ablate",
    layer: Layer = "auto",
    direction: Direction = "projected",
    strength: Strength = None,
    sites: Sites = "embed,attn,mlp",
    optimize: Optimize = False,
    target_refusals: TargetRefusals = None,
    max_kl: MaxKl = None,
    harmful: Harmful = "builtin:harmful",
    harmless: Harmless = "builtin:harmless",
    n_train: NTrain = 128,
    save: Save = "checkpoint",
    push: Push = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    max_memory: MaxMemory = None,
    batch_size: BatchSize = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    force: Force = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    allow_unproved: Unproved = False,
    edited_dtype: EditedDtype = None,
    revision: Revision = None,
    system: System = None,
    thinking: Thinking = "auto",
    chat_template: Template = None,
    steps: Steps = None,
    learning_rate: LearningRate = None,
    rank: Rank = None,
    ablate_probability: AblateProbability = None,
) -> None:
    """Run the main job."""
    given = {name: value for name, value in locals().items() if name not in ("as_json", "push")}
    settings = {name: value for name in HARDENING if (value := given.pop(name)) is not None}
    if mode == "harden":
        return harden(given, settings, push, as_json)
    if settings:
        raise InputError(f"--{next(iter(settings)).replace('_', '-')} is for --mode harden; leave it out")
    from abliterate.commands.export import save_others
    from abliterate.hub.push import check_push
    from abliterate.parallel.processes import Processes
    from abliterate.pipeline.find import assist
    from abliterate.pipeline.run import run
    from abliterate.render.run import result, result_json

    chosen = options(**given)
    if not Processes.launched().first:
        return assist(chosen)
    if push:
        check_push(push)
    one = run(chosen, progress())
    show(result(one), result_json(one), as_json)
    for other in save_others(chosen, progress()):
        Console(stderr=True).print(f"also written: {other.out}")
    if push:
        publish(chosen.out, push, public=False)


def harden(given: dict[str, Any], settings: dict[str, Any], push: str | None, as_json: bool) -> None:
    """Train a LoRA under random ablation of the direction, so that refusal survives the edit; measure it before and after."""
    from abliterate.commands.harden import harden_model
    from abliterate.hub.push import check_push
    from abliterate.render.trained import hardened, hardened_json

    out = given["out"] or default_out(given["model"], OUT_NAMES["harden"])
    chosen = options(**{**given, "mode": "ablate", "out": out})
    if push:
        check_push(push)
    one = harden_model(chosen, settings, progress())
    show(hardened(one), hardened_json(one), as_json)
    if push:
        publish(chosen.out, push, public=False)
