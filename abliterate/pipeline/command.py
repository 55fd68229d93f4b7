"""The command that repeats a run, and back: what a manifest's command asks for, which is somebody else's word.

A manifest can name no code, no way around a proof, and no file outside its own folder.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from abliterate.checkpoints.other_files import leads_out
from abliterate.errors import InputError
from abliterate.models.source import Source
from abliterate.pipeline.options import Options
from abliterate.records.option import OFF, declarations, flag_of, recorded, words_of
from abliterate.storage.names import MANIFEST, SETTINGS

FETCHED = (MANIFEST, "*.json", "*.jsonl", "*.txt", "*.csv", "*.tsv", "*.toml", "*.jinja")
"""What is fetched of a repository: the manifest, and prompts or templates that may lie beside it; no weights."""

RUN_OPTIONS = declarations(Options)

RECORDED = frozenset(name for name, one in RUN_OPTIONS.items() if one.recorded and not one.switch)
"""Options with a value that a manifest's command may hold."""


SWITCHED_OFF = {one.off: name for name, one in RUN_OPTIONS.items() if one.off}
"""Options by the flag that switches them off."""


def command(options: Options, source: Source) -> list[str]:
    """Return the command that repeats this run; folders of this machine stay out of it."""
    return ["abliterate", source.shown_name, *words_of(options), "--out", options.out.name]


def settled(options: Options, loaded: Options) -> Options:
    """Return options as they were given, with what only loading decided: whether there is a search, the day, the thinking switch."""
    return replace(options, optimize=loaded.optimize, date=loaded.date, thinking=loaded.thinking)


def settings(source: Source, *options: Any) -> str:
    """Return the text of a file with which `--config` repeats a run: all that its command says of each of `options`."""
    name = "".join(mark if mark.isprintable() else "?" for mark in source.shown_name)
    lines = [f"# abliterate {shlex.quote(name)} --config {SETTINGS}"]
    for group in options:
        lines += [
            f"{flag_of(key, one).removeprefix('--')} = {toml_value(value)}" for key, one, value in recorded(group)
        ]
    return "\n".join(lines) + "\n"


def toml_value(value: bool | int | float | str) -> str:
    """Return a value as TOML has it, whose strings are those of JSON but for one control character."""
    return (
        json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        if isinstance(value, str | bool)
        else str(value)
    )


def options_of_command(words: Sequence[object], folder: Path, given: Collection[str] = ()) -> dict[str, Any]:
    """Return the options that a manifest's command gives, by name; files are those of that name in `folder`.

    Those in `given` are known already, and not looked for.

    Raises InputError for anything that `command` does not write, and for what a manifest may not decide.
    """
    found = {
        name: True if text is None else read_option(name, text, folder)
        for name, text in told(words, given).items()
        if name not in given
    }
    # Every run since the search became the default says whether there was one; before that, silence meant none.
    return {"optimize": False} | found


def told(words: Sequence[object], given: Collection[str] = ()) -> dict[str, str | None]:
    """Return the text of each option in a manifest's command, by name, None for a switch, OFF for one that was switched off; nothing is read or looked for.

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
        elif (known := RUN_OPTIONS.get(name)) and known.refused:
            continue  # whoever repeats the run decides; without it the run says what it needs
        elif known and known.switch and known.recorded:
            found[name] = None
        elif flag in SWITCHED_OFF:
            found[SWITCHED_OFF[flag]] = OFF
        elif flag.startswith("--") and (name in RECORDED or name in given) and rest:
            found[name] = rest.pop(0)
        else:
            raise InputError(
                f"the manifest's command holds {flag!r}, which this version does not know; use the one that wrote it"
            )
    return found


def read_option(name: str, text: str, folder: Path) -> Any:
    """Return one option's value. Raises InputError for a value that it cannot have."""
    known = RUN_OPTIONS[name]
    try:
        value = known.read(text)
    except InputError:
        raise
    except ValueError:
        raise InputError(f"the manifest's command: {flag_of(name, known)} cannot be {text!r}") from None
    return known.locate(text, lambda file: beside(file, folder, name)) if known.locate else value


def beside(name: str, folder: Path, option: str) -> Path:
    """Return the file of that name in `folder`. Raises InputError for a path, a link elsewhere, and where it is not there."""
    if PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
        raise InputError(f"the manifest names a file outside its folder ({name!r}); it is not read")
    path = folder / name
    if not path.is_file():
        raise InputError(
            f"{name}: is not beside the manifest; put it there, or give it with --{option.replace('_', '-')}"
        )
    if leads_out(folder, Path(name)):
        raise InputError(
            f"{name}: is a link out of the manifest's folder, and is not followed; give the file with "
            f"--{option.replace('_', '-')}"
        )
    return path
