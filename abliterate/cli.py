"""The command line: parse, call, render. The only file that prints."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from abliterate.errors import AbliterateError
from abliterate.flags import (
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
    MaxKl,
    MaxMemory,
    Model,
    NTrain,
    Offline,
    Optimize,
    Out,
    Push,
    Revision,
    Seed,
    Sites,
    Strength,
    System,
    TargetRefusals,
    Template,
    Thinking,
    Trust,
    Unproved,
    options,
)
from abliterate.progress import Advance

# torch and transformers take seconds to import: verbs import what they need, so that --help and completion are instant.

app = typer.Typer(
    name="abliterate",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the refusal direction of an open-weight chat model, edit the weights along it, prove the edit, "
    "measure it, ship the checkpoint.\n\n"
    "[bold]abliterate MODEL --out DIR[/bold] does all of it; MODEL is a Hub id, a folder or a .gguf file. "
    "A first argument that is none of the verbs below is a model.\n\n"
    "Try [bold]abliterate demo[/bold] first: a tiny model that comes with the package, under a minute.",
)

INTERRUPTED = 130


class RichProgress:
    """Draws one bar per step, on stderr."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        """Show a bar for the time of the context."""
        scale = 1_000_000 if unit == "B" else 1
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
        )
        with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console) as bars:
            task = bars.add_task(title, total=max(1, round(total / scale)), unit="MB" if unit == "B" else unit)
            done = 0

            def advance(units: int) -> None:
                nonlocal done
                done += units
                bars.update(task, completed=round(done / scale))

            yield advance


def progress() -> RichProgress:
    """Return bars on stderr, and turn off those of transformers."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    return RichProgress(Console(stderr=True))


def show(rendered: RenderableType, data: dict[str, Any], as_json: bool) -> None:
    """Print a result, for people or for programs."""
    if as_json:
        print(json.dumps(data, ensure_ascii=False))
    else:
        Console(soft_wrap=not sys.stdout.isatty()).print(rendered)


@app.command("run", help="Find, edit, prove, measure: the default when the first argument is a model.")
def run_verb(
    model: Model,
    out: Out = None,
    layer: Layer = "auto",
    direction: Direction = "projected",
    strength: Strength = 1.0,
    sites: Sites = "embed,attn,mlp",
    optimize: Optimize = False,
    target_refusals: TargetRefusals = None,
    max_kl: MaxKl = None,
    harmful: Harmful = "builtin:harmful",
    harmless: Harmless = "builtin:harmless",
    n_train: NTrain = 128,
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
) -> None:
    """Run the main job."""
    given = {name: value for name, value in locals().items() if name not in ("as_json", "push")}
    from abliterate import render
    from abliterate.outputs.hub import check_push
    from abliterate.pipeline import assist, run
    from abliterate.processes import Processes

    chosen = options(**given)
    if not Processes.launched().first:
        return assist(chosen)
    if push:
        check_push(push)
    one = run(chosen, progress())
    show(render.result(one), render.result_json(one), as_json)
    if push:
        publish(chosen.out, push, public=False)


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Keep the edited tiny model in this folder.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the main job on the tiny chat model that comes with the package."""
    from abliterate import render, verbs

    with tempfile.TemporaryDirectory() as temporary:
        one = verbs.demo(out or Path(temporary) / "edited-tiny-chat", progress())
        show(render.result(one, kept=out is not None), render.result_json(one), as_json)


@app.command()
def inspect(
    model: Model,
    as_json: AsJson = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    revision: Revision = None,
) -> None:
    """Show the writers of a model and prove them on a small clone, its sizes, what a run will cost; loads no weights."""
    from abliterate import render, verbs

    given = options(model, Path(), offline=offline, trust_remote_code=trust_remote_code, revision=revision)
    one = verbs.inspect(given, progress())
    show(render.inspection(one), render.inspection_json(one), as_json)


@app.command()
def architectures(
    types: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TYPE]...", help="Model types, such as llama; all by default.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table of the README.")] = False,
) -> None:
    """Prove every architecture of the installed transformers on a small clone, and list which are supported."""
    from abliterate import census, render

    bars = progress()
    chosen = types or [*census.model_types(), *census.multimodal_types()]
    entries = list(census.sweep(chosen, bars))
    if markdown:
        print(render.architectures_markdown(entries))
        return
    show(render.architectures(entries), render.architectures_json(entries), as_json)


@app.command()
def apply(
    model: Model,
    directions: Annotated[Path, typer.Option(help="directions.safetensors of an earlier run.", show_default=False)],
    out: Out = None,
    recipe: Annotated[Path | None, typer.Option(help="recipe.json of an earlier run.", show_default=False)] = None,
    layer: Layer = "auto",
    strength: Strength = 1.0,
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
    from abliterate import render, verbs

    one = verbs.apply(options(**given), directions, recipe, progress())
    show(render.applied(one), render.applied_json(one), as_json)


@app.command()
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
    from abliterate import render_verified, verbs

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
    one = verbs.verify(original, edited, given, progress())
    show(render_verified.verified(one), render_verified.verified_json(one), as_json)
    if not one.holds:
        raise typer.Exit(1)


@app.command()
def evaluate(
    model: Model,
    against: Annotated[
        str | None, typer.Option(help="The original, for KL(original || model).", show_default=False)
    ] = None,
    harmful: Harmful = "builtin:harmful",
    harmless: Harmless = "builtin:harmless",
    dtype: Dtype = "auto",
    device: Device = "auto",
    max_memory: MaxMemory = None,
    batch_size: BatchSize = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    revision: Revision = None,
    system: System = None,
    thinking: Thinking = "auto",
    chat_template: Template = None,
) -> None:
    """Measure refusals, and the divergence from the original, on the report side of the prompts."""
    given = {name: value for name, value in locals().items() if name not in ("as_json", "against")}
    from abliterate import render, verbs

    one = verbs.evaluate(options(out=Path(), **given), against, progress())
    show(render.evaluated(one), render.evaluated_json(one), as_json)


@app.command()
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
    from abliterate.outputs.hub import push as upload

    Console(stderr=True).print(f"pushed to {upload(folder, repository, public=public, progress=progress())}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command; errors are one line on stderr and an exit code (2 input, 1 proof, 130 Ctrl-C)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    if words and not words[0].startswith("-") and words[0] not in verbs:
        words.insert(0, "run")
    quiet()
    raise SystemExit(guarded(lambda: app(words, standalone_mode=True)))


def guarded(call: Callable[[], None]) -> int:
    """Call, and return the exit code."""
    try:
        call()
    except AbliterateError as error:
        print(f"abliterate: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except SystemExit as stop:
        # typer ends so for usage errors, --help, and Ctrl-C, of which it says nothing.
        if stop.code == INTERRUPTED:
            print("abliterate: interrupted; nothing is half-written, the same command continues", file=sys.stderr)
        raise
    return 0


def quiet() -> None:
    """Keep the libraries' own bars and advice out of ours; their errors still show."""
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("TOKENIZERS_PARALLELISM", "true"),
    ):
        os.environ.setdefault(name, value)
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # that layers stream is said in our own words
