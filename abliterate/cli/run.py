"""Verbs that make and prove checkpoints: run, demo, apply, verify, push."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
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
    memory,
    options,
)
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


@app.command(cls=Verb)
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Keep the edited tiny model in this folder.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the main job on the tiny chat model that comes with the package."""
    from abliterate.commands.demo import demo
    from abliterate.render.run import result, result_json

    with tempfile.TemporaryDirectory() as temporary:
        one = demo(out or Path(temporary) / "edited-tiny-chat", progress())
        show(result(one, kept=out is not None), result_json(one), as_json)


@app.command(cls=Verb)
def apply(
    model: Model,
    directions: Annotated[Path, typer.Option(help="directions.safetensors of an earlier run.", show_default=False)],
    out: Out = None,
    recipe: Annotated[Path | None, typer.Option(help="recipe.json of an earlier run.", show_default=False)] = None,
    layer: Layer = "auto",
    strength: Strength = None,
    sites: Sites = "embed,attn,mlp",
    dtype: Dtype = "auto",
    device: Device = "auto",
    max_memory: MaxMemory = None,
    as_json: AsJson = False,
    force: Force = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    allow_unproved: Unproved = False,
    edited_dtype: EditedDtype = None,
    revision: Revision = None,
) -> None:
    """Edit a checkpoint by given directions and prove the result; needs no prompts and no chat template."""
    given = {name: value for name, value in locals().items() if name not in ("as_json", "directions", "recipe")}
    from abliterate.commands.apply import apply
    from abliterate.render.applied import applied, applied_json

    one = apply(options(**given), directions, recipe, progress())
    show(applied(one), applied_json(one), as_json)


@app.command(cls=Verb)
def verify(
    original: Annotated[str, typer.Argument(help="The source: Hub id, folder or .gguf file.", show_default=False)],
    edited: Annotated[Path, typer.Argument(help="A folder that abliterate wrote.", show_default=False)],
    dtype: Dtype = "auto",
    device: Device = "auto",
    max_memory: MaxMemory = None,
    as_json: AsJson = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    revision: Revision = None,
) -> None:
    """Prove again, from the files, that EDITED is ORIGINAL edited by its recipe; exit code 1 when it is not."""
    from abliterate.commands.verify import verify
    from abliterate.render.verified import verified, verified_json

    given = options(
        original,
        Path(),
        dtype=dtype,
        device=device,
        max_memory=max_memory,
        offline=offline,
        trust_remote_code=trust_remote_code,
        revision=revision,
    )
    one = verify(original, edited, given, progress())
    show(verified(one), verified_json(one), as_json)
    if not one.holds:
        raise typer.Exit(1)


@app.command(cls=Verb)
def reproduce(
    manifest: Annotated[
        str, typer.Argument(help="abliterate.json, its folder, or a Hub repository that holds one.", show_default=False)
    ],
    model: Annotated[
        str | None,
        typer.Option(help="The original. \\[default: the Hub id that the manifest names]", show_default=False),
    ] = None,
    harmful: Annotated[
        str | None, typer.Option(help="The harmful prompts, if they do not lie beside it.", show_default=False)
    ] = None,
    harmless: Annotated[str | None, typer.Option(help="The harmless ones.", show_default=False)] = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="The chat template, if the run had one that does not.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the result in this folder.", show_default=False)] = None,
    device: Device = "auto",
    max_memory: MaxMemory = None,
    as_json: AsJson = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    allow_unproved: Unproved = False,
) -> None:
    """Repeat the run of a manifest and compare hashes and figures; exit code 1 where something differs."""
    given = {name: value for name, value in locals().items() if name not in ("manifest", "out", "as_json")}
    from abliterate.commands.reproduce import Given, reproduce
    from abliterate.render.reproduced import reproduced, reproduced_json

    if given["max_memory"] is not None:
        given["max_memory"] = memory(given["max_memory"])
    with tempfile.TemporaryDirectory() as temporary:
        one = reproduce(manifest, Given(**given), out or Path(temporary) / "again", progress())
        show(reproduced(one), reproduced_json(one), as_json)
    if not one.same:
        raise typer.Exit(1)


@app.command(cls=Verb)
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that abliterate wrote.", show_default=False)],
    repository: Annotated[
        str, typer.Argument(help="org/name on the Hub; made if it is not there.", show_default=False)
    ],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; private otherwise.")] = False,
) -> None:
    """Upload a finished checkpoint with its card and manifest to the Hub."""
    publish(folder, repository, public)


def publish(folder: Path, repository: str, public: bool) -> None:
    """Push and say where the result is."""
    from abliterate.hub.push import push as upload

    Console(stderr=True).print(f"pushed to {upload(folder, repository, public=public, progress=progress())}")
