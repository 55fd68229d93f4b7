"""What a SPEC of prompts may name: a list of the package, a saved dataset, a file, a dataset on the Hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from abliterate.errors import InputError, shortened
from abliterate.prompts.files import FILE_READERS, expanded, joined, kind_of, lines_of, read_file, shown
from abliterate.prompts.prompt import Prompt
from abliterate.prompts.stored_datasets import HUB_SPEC, as_folder, read_folder, read_hub

BUILTIN = ("harmful", "harmless", "look-alikes", "look-alikes-report", "everyday", "operator-rules", "slop")

PACKAGE = "builtin:"


@dataclass(frozen=True)
class SpecKind:
    """A kind of SPEC: which ones are of it, how they are read (offline or not), and what of one may be published."""

    matches: Callable[[str], bool]
    read: Callable[[str, bool], list[Prompt]]
    public: Callable[[str], str] = str


def read_spec(spec: str, *, offline: bool) -> list[Prompt]:
    """Return the prompts that a SPEC names. Raises InputError as `load_prompts`."""
    for kind in SPEC_KINDS:
        if kind.matches(spec):
            return kind.read(spec, offline)
    path = expanded(spec)
    found = kind_of(path)
    if found is not None:
        raise InputError(
            f"{shown(path)}: is {found}; give a file of prompts, or a folder that save_to_disk of the datasets library made"
        )
    raise InputError(
        f"{shortened(spec, 500, quoted=False)}: no such prompt file; give a {joined([*FILE_READERS])} file or "
        "org/dataset[:split[:column]]"
    )


def public_spec(spec: str) -> str:
    """Return a SPEC without the folders of this machine: what may be published."""
    return next((kind.public(spec) for kind in SPEC_KINDS if kind.matches(spec)), spec)


def builtin(name: str) -> list[Prompt]:
    """Return one of the lists that the package ships. Raises InputError for an unknown name.

    A list of plain prompts is a text file; one whose prompts have categories, or system messages, is a table.
    """
    if name not in BUILTIN:
        raise InputError(
            f"{PACKAGE}{shortened(name, quoted=False)}: unknown; the package ships "
            f"{', '.join(PACKAGE + known for known in BUILTIN)}"
        )
    folder = resources.files("abliterate").joinpath("data").joinpath("prompts")
    table = folder.joinpath(f"{name}.tsv")
    if table.is_file():
        with resources.as_file(table) as path:
            return read_file(path, None)
    return [Prompt(line) for line in lines_of(folder.joinpath(f"{name}.txt").read_text(encoding="utf-8"))]


def as_file(spec: str) -> tuple[Path | None, str | None]:
    """Return (path, column) when `spec` names a local file, else (None, None). A leading `~` is the user's folder."""
    path, _, column = spec.rpartition(":")
    for candidate, name in ((spec, None), (path, column)):
        if candidate and (Path(candidate).suffix.lower() in FILE_READERS or kind_of(expanded(candidate)) == "a file"):
            return expanded(candidate), name
    return None, None


def public_file(spec: str) -> str:
    """Return the name of a file, and its column."""
    path, column = as_file(spec)
    assert path is not None
    return path.name + (f":{column}" if column else "")


def public_folder(spec: str) -> str:
    """Return the name of a folder, its split and its column."""
    folder, split, column = as_folder(spec)
    assert folder is not None
    return ":".join([folder.resolve().name, *([split] if split or column else []), *([column] if column else [])])


def read_named_file(spec: str, offline: bool) -> list[Prompt]:
    """Read `FILE[:column]`."""
    path, column = as_file(spec)
    assert path is not None
    return read_file(path, column)


SPEC_KINDS: tuple[SpecKind, ...] = (
    SpecKind(
        lambda spec: spec.startswith(PACKAGE),
        lambda spec, offline: builtin(spec.removeprefix(PACKAGE)),
    ),
    SpecKind(lambda spec: as_folder(spec)[0] is not None, lambda spec, offline: read_folder(spec), public_folder),
    SpecKind(lambda spec: as_file(spec)[0] is not None, read_named_file, public_file),
    SpecKind(lambda spec: HUB_SPEC.fullmatch(spec) is not None, lambda spec, offline: read_hub(spec, offline=offline)),
)
"""The kinds of SPEC, the first that matches counts: what lies on this machine goes before a name on the Hub."""
