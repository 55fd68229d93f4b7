"""Verbs that give an edit another form: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abliterate.cli.app import app, progress, show
from abliterate.cli.completion import Verb, listed
from abliterate.cli.completion import words as completing
from abliterate.cli.flags import AsJson, Device, Dtype, Force, MaxMemory, Offline, Revision, Trust, Unproved, options
from abliterate.errors import InputError

# torch and transformers take seconds to import: verbs import what they need, so that --help and completion are instant.


OURS = ("edit", "to", "out", "model", "leave_out", "gguf", "layer", "as_json")
"""Parameters of the verb itself; the others are options of every run."""


@app.command(cls=Verb)
def export(
    edit: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_OR_RECIPE",
            help="A folder that abliterate wrote, or the recipe.json of one.",
            show_default=False,
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            autocompletion=completing("to"), help="adapter (PEFT), gguf-adapter or control-vector (llama.cpp)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for a PEFT adapter, file for the others.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(help="The original. \\[default: the Hub id that the manifest names]", show_default=False),
    ] = None,
    leave_out: Annotated[
        str,
        typer.Option(
            autocompletion=listed("sites"),
            help="Sites to leave out of a GGUF adapter, by commas: embed, where it is tied.",
        ),
    ] = "",
    gguf: Annotated[
        Path | None, typer.Option(help="The GGUF file that the adapter is for: it is checked.", show_default=False)
    ] = None,
    layer: Annotated[
        str,
        typer.Option(help="Layers of a control vector, by commas. \\[default: that of the edit]", show_default=False),
    ] = "",
    dtype: Dtype = "auto",
    device: Device = "auto",
    max_memory: MaxMemory = None,
    as_json: AsJson = False,
    force: Force = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    allow_unproved: Unproved = False,
    revision: Revision = None,
) -> None:
    """Write an edit as a PEFT adapter, an adapter for llama.cpp, or a control vector."""
    given = {name: value for name, value in locals().items() if name not in OURS}
    from abliterate.architectures.architecture import SITES
    from abliterate.commands.export import ExportOptions, export
    from abliterate.exports.forms import EXPORT_FORMS
    from abliterate.render.exported import exported, exported_json

    kind = next((one for one in EXPORT_FORMS if one == to), None)
    if kind is None:
        raise InputError(f"--to {to}: choose among {', '.join(EXPORT_FORMS)}")
    sites = tuple(site for site in SITES if site in words(leave_out))
    if len(sites) != len(words(leave_out)):
        raise InputError(f"--leave-out {leave_out}: choose among {', '.join(SITES)}")
    if not all(one.isdecimal() for one in words(layer)):
        raise InputError(f"--layer {layer}: give whole numbers by commas")
    export_options = ExportOptions(edit, kind, sites, gguf, tuple(map(int, words(layer))) or None)
    one = export(export_options, options(model or "", out, **given), progress())
    show(exported(one), exported_json(one), as_json)


def words(text: str) -> list[str]:
    """Return the words that commas part."""
    return [word.strip() for word in text.split(",") if word.strip()]
