"""The optional packages: what each extra of pyproject.toml brings, and the one line that says how to get it here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from abliterate.errors import InputError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "endpoint": ("openai",),
    "eval": ("lm_eval",),
    "features": ("sae_lens",),
    "gguf": ("gguf", "sentencepiece"),
    "lab": ("starlette", "uvicorn"),
    "report": ("pandas", "plotly"),
    "study": ("minisom", "sklearn"),
    "train": ("peft", "trl"),
}
"""The modules that each extra brings; a test holds them to pyproject.toml."""

PACKAGE = "abliterate"
CONSTRAINTS = "constraints.txt"


def require(extra: str, purpose: str, *modules: str) -> None:
    """Raise InputError when a module of an extra is missing: `purpose` needs it, and this command brings it.

    Where only some `modules` of the extra are needed, only they are asked for. Nothing is imported.
    """
    absent = missing(extra, *modules)
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        raise InputError(
            f"{purpose} needs {' and '.join(absent)}, which {verb} not installed: {install_command(extra)}"
        )


def missing(extra: str, *modules: str) -> list[str]:
    """Return the modules of an extra that are not installed, all of them or those that are named. Nothing is imported."""
    return [module for module in modules or EXTRAS[extra] if find_spec(module) is None]


def install_command(extra: str, beside: Path | None = None) -> str:
    """Return the command that brings an extra to this installation, whether a clone or an installed package.

    `beside` is the folder that holds the package, by default that of this file.
    """
    folder = (beside or Path(__file__).resolve().parent.parent).resolve()
    if is_clone(folder):
        return from_folder(folder, extra, editable=True)
    origin = origin_of_install()
    url = str(origin.get("url", ""))
    if "dir_info" in origin:
        folder = Path(url2pathname(urlsplit(url).path))
        if is_clone(folder):
            return from_folder(folder, extra, bool(origin["dir_info"].get("editable")))
    elif "vcs_info" in origin:
        vcs = origin["vcs_info"]
        commit = vcs.get("requested_revision") or vcs.get("commit_id")
        url = f"{vcs.get('vcs')}+{url}@{commit}"
        return f"pip install {quote(f'{PACKAGE}[{extra}] @ {url}')}"
    elif url:
        return f"pip install {quote(f'{PACKAGE}[{extra}] @ {url}')}"
    return f"pip install '{PACKAGE}[{extra}]'"


def from_folder(folder: Path, extra: str, editable: bool) -> str:
    """Return the command that installs a clone with an extra, in the versions that its tests run with."""
    here = folder == Path.cwd().resolve()
    words = ["pip", "install"]
    if (folder / CONSTRAINTS).is_file():
        words += ["-c", CONSTRAINTS if here else quote(str(folder / CONSTRAINTS))]
    words += ["-e"] if editable else []
    return " ".join([*words, quote(f"{'.' if here else folder}[{extra}]")])


def is_clone(folder: Path) -> bool:
    """Return whether a folder is the project's own: its pyproject.toml names the package."""
    try:
        return f'name = "{PACKAGE}"' in (folder / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False


def origin_of_install() -> dict[str, Any]:
    """Return what pip has noted of where the package came from (PEP 610); nothing where it came from an index."""
    try:
        noted = distribution(PACKAGE).read_text("direct_url.json")
    except PackageNotFoundError:
        return {}
    found: dict[str, Any] = json.loads(noted) if noted else {}
    return found
