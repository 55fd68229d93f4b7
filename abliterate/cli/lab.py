"""`abliterate lab`."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer
from rich.text import Text

from abliterate.chat.options import ChatOptions
from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import Against, AsJson, flags
from abliterate.cli.terminal import note
from abliterate.pipeline.condition_options import SaidTemplate
from abliterate.pipeline.options import AskOptions
from abliterate.records.option import Declaration

LOOKING = flags(
    "dtype", "device", "max_memory", "offline", "trust_remote_code", "revision",
    model=Declaration(
        "An edit that abliterate wrote, with its recipe and directions: folder or Hub id.", argument=True, metavar="DIR"
    ),
)  # fmt: skip


@verb("look", "abliterate lab ./edited --against org/model", "abliterate lab ./edited --against org/model --open")
def lab(
    options: Annotated[AskOptions, LOOKING],
    said: SaidTemplate,
    chat_options: ChatOptions,
    against: Against = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.", min=0, max=65535)] = 0,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at an edit live in the browser: both models' replies at any strength, each token coloured by the direction.

    Prints an address that opens on this machine alone. Ctrl-C ends it, with exit code 0.
    """
    from abliterate.commands.lab import lab

    with lab(options, said, chat_options, against, port, progress()) as opened, contextlib.suppress(KeyboardInterrupt):
        note(f"{opened.note}\nCtrl-C ends the lab")
        show(Text(opened.address), {"address": opened.address, "note": opened.note}, as_json)
        if open_page:
            typer.launch(opened.address)
        opened.wait()
