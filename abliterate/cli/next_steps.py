"""What can be done with a result: the last line of the verbs that write one."""

from __future__ import annotations

import shlex
from pathlib import Path

from abliterate.cli.terminal import note
from abliterate.storage.names import MANIFEST


def say_next(folder: Path, as_json: bool, pushed: bool = False) -> None:
    """Say on stderr the commands that a result is ready for, with its folder; nothing with --json or --quiet."""
    if not as_json:
        note(f"next: {' · '.join(next_commands(folder, pushed))}")


def next_commands(folder: Path, pushed: bool = False) -> list[str]:
    """Return them: a page needs the record of an edit, which healing and hardening do not leave."""
    here = shlex.quote(str(folder))
    found = [f"abliterate chat {here}"]
    if (folder / MANIFEST).is_file():
        found.append(f"abliterate report {here}")
    if not pushed:
        found.append(f"abliterate push {here} {shlex.quote(f'ORG/{folder.resolve().name}')}")
    return found
