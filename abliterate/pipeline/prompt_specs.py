"""How options name prompts: the words that are known, and what a record's word for a list stands for."""

from __future__ import annotations

import os
from pathlib import Path

from abliterate.errors import InputError
from abliterate.hub.names import is_hub_name
from abliterate.prompts.sources import BUILTIN, as_file, public_spec
from abliterate.records.option import Beside, Declaration

PROMPT_LISTS = tuple(f"builtin:{name}" for name in BUILTIN)


def spec_beside(text: str, beside: Beside) -> str:
    """Return the prompts that a record names, a file being the one of that name beside it.

    Raises InputError for what lies on this machine, but not beside the record.
    """
    path, column = as_file(text)
    if path is not None:
        return f"{beside(str(path))}" + (f":{column}" if column else "")
    name = text.partition(":")[0]
    here = os.path.lexists(Path(name).expanduser())
    if not text.startswith("builtin:") and (here or not is_hub_name(name)):
        what = "is a folder or file here" if here else "is no file beside it, and no name on the Hub"
        raise InputError(f"the manifest names the prompts {text!r}, which {what}; say where they are with a flag")
    return text


def prompt_list(text: str) -> Declaration:
    """Return the declaration of an option that names prompts, `text` being its help."""
    return Declaration(text, words=PROMPT_LISTS, publish=public_spec, locate=spec_beside)
