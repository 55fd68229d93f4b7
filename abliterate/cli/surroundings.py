"""What every verb is told beside its work: how much it says, and for those that reach the Hub, with which token and cache.

These are no options of a run: no record holds them, and a token reaches nothing but the environment of this process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from abliterate.cli.terminal import QUIET
from abliterate.errors import InputError
from abliterate.records.option import Declaration, Panel, option

TOKEN = "HF_TOKEN"
CACHE = "HF_HUB_CACHE"
NO_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")
"""Variables that the Hub's libraries read, in this process and in those that it starts."""


@dataclass(frozen=True)
class Surroundings:
    """How a verb speaks, and how it reaches the Hub."""

    PANEL: ClassVar[Panel] = "hub"

    quiet: bool = option(
        False,
        Declaration(
            "Print errors alone: no progress, notes or tables; with --json the object.",
            kind=bool,
            here=True,
            panel="output",
        ),
    )
    token: str | None = option(
        None,
        Declaration(
            "Token of the Hub. \\[default: HF_TOKEN, or that of `hf auth login`]",
            metavar="TOKEN",
            here=True,
            refused="is a secret, and stays out of files; set HF_TOKEN or run hf auth login",
        ),
    )
    cache_dir: Path | None = option(
        None,
        Declaration(
            "Folder of the Hub's cache. \\[default: HF_HUB_CACHE]", read=Path, kind=Path, metavar="DIR", here=True
        ),
    )

    def take_effect(self) -> None:
        """Set them for the rest of this process, or of `kept`. Raises InputError for what can be no token or folder."""
        if self.token is not None and not re.fullmatch("[!-~]+", self.token):
            raise InputError("--token: is empty, or has a character that no token has; copy it again")
        if self.cache_dir is not None and not self.cache_dir.expanduser().is_dir() and os.path.lexists(self.cache_dir):
            raise InputError(f"--cache-dir {self.cache_dir}: is no folder; give another")
        if self.token is not None:
            os.environ[TOKEN] = self.token
        if self.cache_dir is not None:
            os.environ[CACHE] = str(self.cache_dir.expanduser().absolute())
        if self.quiet:
            QUIET.set(True)
            os.environ.update(dict.fromkeys(NO_BARS, "1"))


@contextmanager
def kept() -> Iterator[None]:
    """Put back at the end what `take_effect` changes inside: a caller who is no process of its own keeps its own."""
    before = {name: os.environ.get(name) for name in (TOKEN, CACHE, *NO_BARS)}
    loud = QUIET.set(False)
    try:
        yield
    finally:
        QUIET.reset(loud)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
