"""`abliterate export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.options import Options
from abliterate.records.option import Declaration

EXPORTING = flags(
    "dtype", "device", "max_memory", "force", "offline", "trust_remote_code", "allow_unproved", "revision",
    model=Declaration("The original. \\[default: the Hub id that the manifest names]", usual=lambda _: ""),
    out=Declaration("Folder for a PEFT adapter, file for the others.", read=Path, kind=Path),
)  # fmt: skip


@verb("ship")
def export(
    export_options: ExportOptions,
    options: Annotated[Options, EXPORTING],
    as_json: AsJson = False,
) -> None:
    """Write an edit as a PEFT adapter, an adapter for llama.cpp, or a control vector."""
    from abliterate.commands.export import export
    from abliterate.render.exported import exported, exported_json

    one = export(export_options, options, progress())
    show(exported(one), exported_json(one), as_json)
