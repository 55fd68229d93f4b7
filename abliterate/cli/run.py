"""`abliterate run`, the verb of a command that begins with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson
from abliterate.errors import InputError
from abliterate.pipeline.options import Options
from abliterate.records.option import declarations, flag_of
from abliterate.training.harden_options import HardenOptions


@verb("edit")
def run(
    options: Options,
    harden_options: HardenOptions | None,
    push: Annotated[
        str | None, typer.Option(help="Also push the result to this Hub repository (private).", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find, edit, prove, measure: the default when the first argument is a model."""
    if options.mode == "harden":
        return harden(options, harden_options or HardenOptions(), push, as_json)
    if harden_options is not None:
        known = [flag_of(name, one) for name, one in declarations(HardenOptions).items() if one.offered]
        raise InputError(f"{', '.join(known)}: are for --mode harden; leave them out")
    from abliterate.commands.export import save_others
    from abliterate.commands.run import run
    from abliterate.render.run import result, result_json

    one = run(options, push, progress())
    if one is None:
        return
    show(result(one), result_json(one), as_json)
    for other in save_others(options, progress()):
        Console(stderr=True).print(f"also written: {other.out}")
    if push:
        publish(options.out, push)


def harden(options: Options, harden_options: HardenOptions, push: str | None, as_json: bool) -> None:
    """Train a LoRA under random ablation of the direction, so that refusal survives the edit; measure it before and after."""
    from abliterate.commands.harden import harden_model
    from abliterate.hub.push import check_push
    from abliterate.render.trained import hardened, hardened_json

    if push:
        check_push(push)
    one = harden_model(options, harden_options, progress())
    show(hardened(one), hardened_json(one), as_json)
    if push:
        publish(options.out, push)


def publish(folder: Path, repository: str) -> None:
    """Push the result, and say where it is."""
    from abliterate.commands.push import push

    Console(stderr=True).print(f"pushed to {push(folder, repository, progress=progress())}")
