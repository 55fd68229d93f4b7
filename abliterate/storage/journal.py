"""What is written to a partial folder, and which of its files are finished: a file of JSON lines.

    {"identity": "...", "files": {}}                    what is written here, and what an earlier run had finished
    {"files": {"model-00001-of-00002.safetensors": 10}} one more file, and its bytes
    {"replaces": true, "new": 31, "old": 17}            what `Staging.publish` is about to exchange

A line is appended for each file: thousands of shards cost thousands of lines, not a journal that is written thousands
of times. What a kill has torn is skipped, so that the file of that line is written again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abliterate.storage.foreign_files import parse_json
from abliterate.storage.own_files import open_own, read_own

JOURNAL = ".abliterate-journal.json"
JOURNAL_DRAFT = ".abliterate-journal.json.draft"


def begin_journal(folder: Path, identity: str, finished: Mapping[str, int]) -> None:
    """Put a journal into a folder, in the place of an earlier one. Raises OSError; then that one is still there."""
    draft = folder / JOURNAL_DRAFT
    draft.unlink(missing_ok=True)
    _write(draft, os.O_CREAT | os.O_EXCL, {"identity": identity, "files": dict(finished)})
    draft.replace(folder / JOURNAL)


def append_journal(folder: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to the journal in a folder; on return it is on the disk. Raises OSError, also where there is none."""
    _write(folder / JOURNAL, os.O_APPEND, entry)


def read_journal(path: Path) -> dict[str, Any]:
    """Return what a journal says, its lines put together: no files, and nothing else, when it cannot be read."""
    content: dict[str, Any] = {}
    files: dict[str, Any] = {}
    try:
        lines = read_own(path).split(b"\n")
    except OSError:
        lines = []
    for line in lines:
        try:
            entry = parse_json(line)
        except ValueError:  # torn, or nobody's
            continue
        if isinstance(entry, dict):
            added = entry.pop("files", {})
            files |= added if isinstance(added, dict) else {}
            content |= entry
    return {**content, "files": files}


def _write(path: Path, flags: int, entry: Mapping[str, Any]) -> None:
    # The line end before it, too: a line that a full disk has torn does not take the next one with it.
    line = b"\n" + json.dumps(entry, sort_keys=True).encode() + b"\n"
    descriptor = open_own(path, os.O_WRONLY | flags)
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
