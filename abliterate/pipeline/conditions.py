"""How a run put its prompts: system prompt, thinking switch, chat template, prompt lists. Later verbs do as the run did.

They are read from the record beside the edited model, which is somebody else's word: what it says is read as
`abliterate reproduce` reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from abliterate.errors import InputError
from abliterate.hub.download import download
from abliterate.hub.names import shown_name
from abliterate.pipeline.command import FETCHED, RECORDED, beside, options_of_command, told
from abliterate.pipeline.keep_options import REPORT_LOOK_ALIKES
from abliterate.pipeline.open_prompts import check_recorded_prompts
from abliterate.pipeline.options import AskOptions, Options, TemplateOptions
from abliterate.prompts.chat_format import template_digest
from abliterate.prompts.sources import as_file, public_spec
from abliterate.records.manifest import read_manifest
from abliterate.records.option import declarations
from abliterate.storage.names import HARDENED, HEALED, MANIFEST, TEMPLATE
from abliterate.storage.staging import Staging
from abliterate.training.harden_options import HardenOptions

CONDITIONS = (*declarations(TemplateOptions), "harmful", "harmless")
"""Options that decide what a model is asked, and how."""

LISTS = ("harmful", "harmless", "look_alikes", "report_look_alikes", "keep")
"""Options that name prompts, whose files may lie beside a record."""

PUT = tuple(declarations(TemplateOptions))
"""Those of them that a conversation has."""

TOGETHER = (("system",), ("thinking",), ("chat_template",), ("generation",), ("date",), ("harmful", "harmless"))
"""Conditions that are taken together or not at all: one list belongs to the other."""

OF_TRAINING = tuple(name for name, one in declarations(HardenOptions).items() if one.recorded)
"""Options of `--mode harden` alone, which stand in the command of its record."""

USUAL = "default"
SAID = "flag"


@dataclass(frozen=True)
class Recorded:
    """What the record in `folder` says of a run: its command, its prompt lists and the chat template that it was given.

    `where` names the record for people.
    """

    where: str
    folder: Path
    command: Sequence[object]
    prompts: Mapping[str, Any]
    template: Mapping[str, Any] | None = None

    def conditions(self, names: Collection[str]) -> dict[str, Any]:
        """Return the conditions of these names. Raises InputError as `asked`, and where a file is not the run's."""
        others = {*RECORDED, *OF_TRAINING} - set(names)
        usual = {name: value for name, value in vars(Options("", Path())).items() if name in names}
        found = usual | options_of_command(self.command, self.folder, others)
        found = {name: value for name, value in found.items() if name in names}
        path = found.get("chat_template")
        if path is not None and self.template and template_digest(text_of(path)) != self.template.get("digest"):
            raise InputError(f"{path}: is not the chat template that the run had; give it with --chat-template")
        return found

    def identity(self, name: str, value: Any) -> Any:
        """Return what tells one value of a condition from another, wherever its file lies."""
        if name == "chat_template":
            return value and text_of(value)
        if name in ("harmful", "harmless"):
            return self.digest(name) or public_spec(value)
        return value

    def digest(self, side: str) -> str | None:
        """Return the recorded digest of a side's prompts."""
        record = self.prompts.get(side)
        digest = record.get("digest") if isinstance(record, dict) else None
        return digest if isinstance(digest, str) else None


@dataclass(frozen=True)
class Settled:
    """The options with the conditions that hold, and of each where it comes from; `notes` say what was not followed."""

    options: AskOptions
    origins: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def text_of(path: Path) -> str:
    """Return the text of a chat template file. Raises InputError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give the chat template with --chat-template") from error


def recorded(name: str, revision: str | None = None, offline: bool = False) -> Recorded | None:
    """Return what the record beside a model says of its run, None where there is none or no run asked anything.

    Of a Hub repository only small files are fetched. Raises InputError for a record that cannot be read.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        folder, shown = path, shown_name(name)
    elif path.exists() or path.suffix == ".gguf":
        return None
    else:
        folder, shown = download(name, revision, offline, FETCHED), shown_name(name)
    return recorded_in(folder, shown)


def recorded_in(folder: Path, shown: str) -> Recorded | None:
    """Return what the record in a folder says of its run, `shown` being the folder's name for people."""
    for file in (MANIFEST, HEALED, HARDENED):
        if not (folder / file).is_file():
            continue
        record = read_manifest(folder, file)
        run = record["run"] if isinstance(record.get("run"), dict) else record
        command, prompts, template = (run.get(key) for key in ("command", "prompts", "chat_template"))
        if isinstance(command, list) and isinstance(prompts, dict):
            kept = template if isinstance(template, dict) else None
            return Recorded(f"{file} of {shown}", folder, command, prompts, kept)
    return None


def settle(
    options: AskOptions,
    said: Collection[str],
    models: Sequence[str],
    against: str | None = None,
    names: Sequence[str] = CONDITIONS,
) -> Settled:
    """Return the options with what `said` does not name taken from the records of `models`; of `against` if none has one.

    Where these do not agree, the usual value holds for all of them, and a note says so. Raises InputError where a
    record asks for what it may not, or for a file that is not beside it or is not the run's.
    """
    kept = records_of(options, models) or records_of(options, [against] if against else [])
    open_names = [name for name in names if name not in said]
    found = [one.conditions(open_names) for one in kept]
    origins = {name: SAID for name in names if name in said}
    notes = []
    for group in TOGETHER:
        own = [name for name in group if name in open_names]
        if not own:
            continue
        keys = [
            tuple(one.identity(name, values[name]) for name in own) for one, values in zip(kept, found, strict=True)
        ]
        if len(set(keys)) == 1:
            options = replace(options, **{name: found[0][name] for name in own})
            origins |= dict.fromkeys(own, " and ".join(one.where for one in kept))
            continue
        origins |= dict.fromkeys(own, USUAL)
        if keys:
            notes.append(unlike(kept, found, own, options))
    check_lists(options, kept, [name for name in origins if origins[name] not in (SAID, USUAL)])
    return Settled(options, origins, tuple(notes))


def records_of(options: AskOptions, models: Sequence[str]) -> list[Recorded]:
    """Return the records of those models that have one."""
    revisions = {options.model: options.revision}
    found = (recorded(name, revisions.get(name), options.offline) for name in dict.fromkeys(models))
    return [one for one in found if one is not None]


def look_alikes_note(options: AskOptions, models: Sequence[str], digest: str) -> tuple[str, ...]:
    """Return a line for each of the models whose edit was found on the look-alikes of this digest, which measure it now."""
    return tuple(
        f"{one.where}: its edit was found on these look-alikes, so their refusals say little of others; give others with "
        f"--look-alikes, such as {REPORT_LOOK_ALIKES}"
        for one in records_of(options, models)
        if one.digest("look-alikes") == digest
    )


def unlike(
    kept: Sequence[Recorded], found: Sequence[Mapping[str, Any]], names: Sequence[str], options: AskOptions
) -> str:
    """Return the line on a condition in which the runs were not alike."""
    runs = "; ".join(
        f"{one.where}: {', '.join(worded(name, values[name]) for name in names)}"
        for one, values in zip(kept, found, strict=True)
    )
    flags = " and ".join(f"--{name.replace('_', '-')}" for name in names)
    common = ", ".join(worded(name, getattr(options, name)) for name in names)
    return f"the runs were not made alike ({runs}); all are asked here with {common}; {flags} chooses"


def worded(name: str, value: Any) -> str:
    """Return a condition in words."""
    if name == "system":
        return "no system prompt" if value is None else f"the system prompt {value!r}"
    if name == "chat_template":
        return "the model's own chat template" if value is None else f"the chat template {Path(value).name}"
    if name == "generation":
        return "greedy replies" if value == "greedy" else "replies by the model's own sampling settings"
    if name == "date":
        return "today's date" if value is None else f"the date {value}"
    return f"thinking {value}" if name == "thinking" else f"{name} prompts {public_spec(value)}"


def told_of(settled: Settled) -> str:
    """Return in one line what holds and where it comes from."""
    return by_origin(vars(settled.options), settled.origins)


def by_origin(values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """Return conditions in one line, those from one place together."""
    grouped: dict[str, list[str]] = {}
    for name, origin in origins.items():
        if name == "date" and values.get(name) is None:
            continue  # the template writes none, or nobody has fixed it
        grouped.setdefault(origin, []).append(worded(name, values[name]))
    return "; ".join(f"{', '.join(words)} ({origin})" for origin, words in grouped.items())


def check_lists(options: AskOptions, kept: Sequence[Recorded], names: Collection[str]) -> None:
    """Raise InputError where a list that a record names does not hold the prompts that the run had."""
    for side in ("harmful", "harmless"):
        if side not in names:
            continue
        digest = kept[0].digest(side)
        if digest is not None:
            check_recorded_prompts(options, side, digest)


def carry(folder: Path, staging: Staging) -> dict[str, Any] | None:
    """Copy what a record says of its run, and its files that lie beside it, into another form of the edit.

    Return what that form's record says of it under `run`, None where there is nothing to say.
    """
    one = recorded_in(folder, folder.name)
    if one is None:
        return None
    texts = told(one.command, {*RECORDED, *OF_TRAINING})
    if TEMPLATE in (texts.get("chat_template"), (one.template or {}).get("file")):
        staging.copy_file(beside(TEMPLATE, folder, "chat_template"), TEMPLATE)
    for side in LISTS:
        path, _ = as_file(texts.get(side) or "")
        lies_there = path is not None and path.name == str(path) and (folder / path).is_file()
        if path is not None and lies_there and not staging.path(path.name).exists():
            staging.copy_file(beside(path.name, folder, side), path.name)
    return {
        "command": list(one.command),
        "prompts": dict(one.prompts),
        **({"chat_template": dict(one.template)} if one.template else {}),
        **({"target": texts["target"]} if texts.get("target") else {}),
    }
