"""Names of models: on the Hub in all the ways in which people write them, told from paths on this machine.

Imports nothing that takes time.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from abliterate.errors import InputError

HUB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""org/name: neither part begins with a dot or a dash, so it is no `../name`, `./name` or flag."""

ONE_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""What the Hub's first models are called, such as gpt2: a name without an org/."""

HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
"""Whose addresses are read; a mirror's too where HF_ENDPOINT names one."""

REVISION = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
"""A commit, and branches or tags without a slash: what a record may ask for. The Hub's cache makes paths of it."""


@dataclass(frozen=True)
class HubName:
    """A repository of models on the Hub, and the branch, tag or commit that its name was given with."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"

    def at(self, revision: str | None) -> str | None:
        """Return the revision to take, `revision` being what --revision says.

        Raises InputError where both say one, and not the same.
        """
        if None not in (revision, self.revision) and revision != self.revision:
            raise InputError(
                f"{self}: its name says {self.revision}, and --revision {revision}; give one of the two, or the same"
            )
        return self.revision if revision is None else revision


def hub_name(text: str) -> HubName | None:
    """Return what a text names on the Hub, None where it has no form of the Hub's names.

    Read are org/name, org/name@revision, a name of one word (gpt2), and the address of a model's page, with
    /tree/revision or without. Whether a folder has the name is for the caller to ask, first.

    Examples:
        >>> hub_name("https://huggingface.co/org/name/tree/v1.0/")
        HubName(repository='org/name', revision='v1.0')
        >>> str(hub_name("hf.co/org/name"))
        'org/name'
        >>> hub_name("gpt2"), hub_name("./gpt2")
        (HubName(repository='gpt2', revision=None), None)
    """
    if (below := below_host(text)) is not None:
        text, tree, after = below.partition("/tree/")
        revision = unquote(after) if tree else None
    else:
        text, mark, after = text.partition("@")
        revision = after if mark else None
    if revision == "" or not (HUB_NAME.fullmatch(text) or ONE_WORD.fullmatch(text)):
        return None
    return HubName(text, revision)


def below_host(text: str) -> str | None:
    """Return the path of an address on the Hub, without slashes around it; None for a text that is no such address."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        rest = text
    elif scheme.lower() not in ("http", "https"):
        return None
    url = urlsplit(f"//{rest}")
    mirror = urlsplit(os.environ.get("HF_ENDPOINT", "")).netloc
    if url.netloc.lower() not in (*HOSTS, *([mirror.lower()] if mirror else [])):
        return None
    return url.path.strip("/")


def cached_name(folder: Path) -> HubName | None:
    """Return what a folder of the Hub's own cache is a snapshot of, None for any other folder.

    Examples:
        >>> str(cached_name(Path("hub/models--org--name/snapshots/607a30d")))
        'org/name@607a30d'
    """
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    name = repository.removeprefix("models--").replace("--", "/", 1)
    return HubName(name, folder.name) if is_hub_name(name) or ONE_WORD.fullmatch(name) else None


def shown_name(model: str) -> str:
    """Return how a model is called before people: of a path the last part, of the Hub org/name, with @revision if given."""
    path = Path(model).expanduser()
    return path.resolve().name if path.exists() else str(hub_name(model) or model)


def public_name(model: str) -> str:
    """Return how a model is called in records, beside which its commit stands: as `shown_name`, without @revision."""
    named = None if Path(model).expanduser().exists() else hub_name(model)
    return shown_name(model) if named is None else named.repository


def is_recorded_name(name: object, revision: object) -> bool:
    """Return whether a record names a model of the Hub: org/name, or one word beside a commit, which no folder has."""
    one_word = isinstance(name, str) and ONE_WORD.fullmatch(name) is not None
    return is_hub_name(name) or (one_word and revision is not None)


def is_hub_name(text: object) -> bool:
    """Return whether a text has the form org/name."""
    return isinstance(text, str) and HUB_NAME.fullmatch(text) is not None


def is_plain_revision(text: object) -> bool:
    """Return whether a text names a revision and no path."""
    return isinstance(text, str) and ".." not in text and REVISION.fullmatch(text) is not None


def is_path(revision: object) -> bool:
    """Return whether what is given as a revision would lead out of a folder; branches may have slashes."""
    return not isinstance(revision, str) or revision.startswith("/") or bool({"..", "."} & set(revision.split("/")))
