"""Names on the Hub, told from paths on this machine; imports nothing that takes time."""

from __future__ import annotations

import re

HUB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""org/name: neither part begins with a dot or a dash, so it is no `../name`, `./name` or flag."""

REVISION = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
"""A commit, and branches or tags without a slash: what a record may ask for. The Hub's cache makes paths of it."""


def is_hub_name(text: object) -> bool:
    """Return whether a text has the form org/name."""
    return isinstance(text, str) and HUB_NAME.fullmatch(text) is not None


def is_plain_revision(text: object) -> bool:
    """Return whether a text names a revision and no path."""
    return isinstance(text, str) and ".." not in text and REVISION.fullmatch(text) is not None


def is_path(revision: object) -> bool:
    """Return whether what is given as a revision would lead out of a folder; branches may have slashes."""
    return not isinstance(revision, str) or revision.startswith("/") or bool({"..", "."} & set(revision.split("/")))
