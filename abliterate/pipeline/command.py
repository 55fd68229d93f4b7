"""The command that repeats a run, and back: what a manifest's command asks for, which is somebody else's word.

A manifest can name no code, no way around a proof, and no file outside its own folder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from abliterate.architectures.architecture import SITES
from abliterate.directions.directions import METHODS
from abliterate.errors import InputError
from abliterate.exports.forms import SAVED_FORMS
from abliterate.models.source import Source
from abliterate.pipeline.options import MODES, Options
from abliterate.prompts.chat_format import THINKING_MODES
from abliterate.prompts.sources import as_file, public_spec
from abliterate.storage.names import MANIFEST, TEMPLATE

FETCHED = (MANIFEST, "*.json", "*.jsonl", "*.txt", "*.csv", "*.jinja")
"""What is fetched of a repository: the manifest, and prompts or templates that may lie beside it; no weights."""

OF_THIS_MACHINE = ("model", "out", "force", "offline", "device", "max_memory")
"""Options that say where and how, not what."""

NOT_TAKEN = {
    "trust_remote_code": "runs code that comes with the model; read it, then pass --trust-remote-code yourself",
    "allow_unproved": "edits an architecture that cannot be proved; pass --allow-unproved yourself",
}
"""What a manifest may not decide."""


def command(options: Options, source: Source) -> list[str]:
    """Return the command that repeats this run; folders of this machine stay out of it."""
    words = ["abliterate", source.public_name]
    defaults = Options("", Path())
    for name, value in vars(options).items():
        if name in OF_THIS_MACHINE or value == getattr(defaults, name):
            continue
        if name == "chat_template":
            value = TEMPLATE  # under which the run keeps it beside the manifest
        elif isinstance(value, tuple):
            value = ",".join(value)
        elif name in ("harmful", "harmless"):
            value = public_spec(value)
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    return [*words, "--out", options.out.name]


def options_of_command(words: Sequence[object], folder: Path, given: Collection[str] = ()) -> dict[str, Any]:
    """Return the options that a manifest's command gives, by name; files are those of that name in `folder`.

    Those in `given` are known already, and not looked for.

    Raises InputError for anything that `command` does not write, and for what a manifest may not decide.
    """
    return {
        name: True if text is None else read_option(name, text, folder)
        for name, text in told(words, given).items()
        if name not in given
    }


def told(words: Sequence[object], given: Collection[str] = ()) -> dict[str, str | None]:
    """Return the text of each option in a manifest's command, by name, None for a switch; nothing is read or looked for.

    `given` may name options that only other verbs have. Raises InputError for anything that `command` does not write.
    """
    if len(words) < 2 or words[0] != "abliterate" or not all(isinstance(word, str) for word in words):
        raise InputError("the manifest's command is not one of abliterate's; it cannot be repeated")
    rest, found = [str(word) for word in words[2:]], dict[str, str | None]()
    while rest:
        flag = rest.pop(0)
        name = flag.removeprefix("--").replace("-", "_")
        if name == "out" and rest:
            rest.pop(0)
        elif name == "optimize":
            found[name] = None
        elif name in NOT_TAKEN:
            continue  # whoever repeats the run decides; without it the run says what it needs
        elif flag.startswith("--") and (name in OPTION_READERS or name in given) and rest:
            found[name] = rest.pop(0)
        else:
            raise InputError(
                f"the manifest's command holds {flag!r}, which this version does not know; use the one that wrote it"
            )
    return found


def read_option(name: str, text: str, folder: Path) -> Any:
    """Return one option's value. Raises InputError for a value that it cannot have."""
    try:
        value = OPTION_READERS[name](text)
    except ValueError:
        raise InputError(f"the manifest's command: --{name.replace('_', '-')} cannot be {text!r}") from None
    if name == "chat_template":
        return beside(text, folder, name)
    if name in ("harmful", "harmless"):
        path, column = as_file(text)
        return text if path is None else f"{beside(str(path), folder, name)}" + (f":{column}" if column else "")
    return value


def beside(name: str, folder: Path, option: str) -> Path:
    """Return the file of that name in `folder`. Raises InputError for a path, and where it is not there."""
    if PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
        raise InputError(f"the manifest names a file outside its folder ({name!r}); it is not read")
    path = folder / name
    if not path.is_file():
        raise InputError(
            f"{name}: is not beside the manifest; put it there, or give it with --{option.replace('_', '-')}"
        )
    return path


def one_of(known: Sequence[str]) -> Callable[[str], str]:
    """Return what reads one of the known words."""

    def reader(text: str) -> str:
        if text not in known:
            raise ValueError
        return text

    return reader


def read_sites(text: str) -> tuple[str, ...]:
    """Read sites by commas."""
    return tuple(one_of(SITES)(site) for site in text.split(","))


def read_forms(text: str) -> tuple[str, ...]:
    """Read forms by commas."""
    return tuple(one_of(SAVED_FORMS)(form) for form in text.split(","))


def read_batch_size(text: str) -> int | str:
    """Read a batch size."""
    return text if text == "auto" else int(text)


OPTION_READERS: Mapping[str, Callable[[str], Any]] = {
    "mode": one_of(MODES),
    "layer": int,
    "direction": one_of(METHODS),
    "strength": float,
    "sites": read_sites,
    "harmful": str,
    "harmless": str,
    "n_train": int,
    "dtype": str,
    "batch_size": read_batch_size,
    "seed": int,
    "edited_dtype": str,
    "save": read_forms,
    "target_refusals": float,
    "max_kl": float,
    "revision": str,
    "system": str,
    "thinking": one_of(THINKING_MODES),
    "chat_template": str,
}
"""How each option that takes a value is read."""
