"""`abliterate reproduce`: repeat a run from its manifest, and say what came out otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abliterate.checkpoint import content_hash
from abliterate.errors import InputError
from abliterate.outputs.manifest import FILE, hashes, read_manifest
from abliterate.pipeline import Result, run
from abliterate.progress import SILENT, Progress
from abliterate.prompts import load_prompts
from abliterate.repeat import asked
from abliterate.session import Options
from abliterate.source import download, resolve

COMPARED = ("direction", "selection", "search", "recipe", "tensors", "proof", "figures")
"""What of a manifest is a result; the rest says how it came about."""

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

FETCHED = (FILE, "*.json", "*.jsonl", "*.txt", "*.csv", "*.jinja")
"""What is fetched of a repository: the manifest, and prompts or templates that may lie beside it; no weights."""


@dataclass(frozen=True)
class Given:
    """What whoever repeats a run says about it; what is None is taken from the manifest."""

    model: str | None = None
    harmful: str | None = None
    harmless: str | None = None
    device: str = "auto"
    max_memory: int | None = None
    offline: bool = False
    trust_remote_code: bool = False
    allow_unproved: bool = False


@dataclass(frozen=True)
class Difference:
    """Something that came out otherwise: its place in the manifest, or a file."""

    place: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Reproduced:
    """A run that was repeated: what differs from the manifest, of how many values, and what may explain it.

    `files` counts the weight files beside the manifest that came out the same bit for bit; None where there are none.
    """

    result: Result
    differences: tuple[Difference, ...]
    compared: int
    files: tuple[int, int] | None
    explanations: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def reproduce(name: str, given: Given, out: Path, progress: Progress = SILENT) -> Reproduced:
    """Repeat the run of a manifest (its file, its folder, or a Hub repository) into `out`, and compare.

    Raises InputError where the manifest asks for what it may not decide, its prompts or model are not at hand or are
    others than those that it names, and all that `pipeline.run` raises.
    """
    folder = folder_of(name, given.offline)
    manifest = read_manifest(folder)
    options = repeated(manifest, given, folder, out)
    check_ingredients(manifest, options, progress)
    result = run(options, progress)
    before, after = ({key: one.get(key) for key in COMPARED} for one in (manifest, result.manifest))
    differences = [*compare("", before, after)]
    files = compare_files(folder, out)
    if files is not None:
        differing = files[1]
        differences += [Difference(shard, "the file beside the manifest", "other bytes") for shard in differing]
    counts = (len(files[0]), len(files[0]) + len(files[1])) if files else None
    return Reproduced(result, tuple(differences), count(before), counts, explain(manifest, result.manifest))


def folder_of(name: str, offline: bool) -> Path:
    """Return the folder that holds the manifest which `name` names."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        if path.name != FILE:
            raise InputError(f"{name}: is not a manifest; give {FILE}, its folder, or a Hub repository")
        return path.parent
    return download(name, None, offline, FETCHED)


def repeated(manifest: Mapping[str, Any], given: Given, folder: Path, out: Path) -> Options:
    """Return the options of the run that the manifest tells of, as far as it may, and of whoever repeats it."""
    words = manifest.get("command")
    if not isinstance(words, list) or words[1:2] == ["apply"]:
        raise InputError(
            f"{folder / FILE}: tells of no run that could be repeated; an apply is repeated by its own command"
        )
    own_words = {name: getattr(given, name) for name in ("harmful", "harmless") if getattr(given, name) is not None}
    found = asked(words, folder, set(own_words)) | own_words
    source = manifest.get("source")
    model = given.model or (source.get("model") if isinstance(source, dict) else None)
    if given.model is None:
        if not isinstance(model, str) or not HUB_NAME.fullmatch(model) or Path(model).exists():
            raise InputError(
                f"the manifest names the model {model!r}, which is not on the Hub; say where it is with --model"
            )
        found["revision"] = source.get("revision") if isinstance(source, dict) else None
    seed = manifest.get("seed")
    own = {
        "device": given.device,
        "max_memory": given.max_memory,
        "offline": given.offline,
        "trust_remote_code": given.trust_remote_code,
        "allow_unproved": given.allow_unproved,
    }
    return Options(str(model), out, **({"seed": seed} if isinstance(seed, int) else {}) | found | own)


def check_ingredients(manifest: Mapping[str, Any], options: Options, progress: Progress) -> None:
    """Raise InputError unless prompts and weights are those that the manifest names, by their hashes."""
    prompts = manifest.get("prompts") or {}
    for side, spec in (("harmful", options.harmful), ("harmless", options.harmless)):
        record = prompts.get(side) or {}
        if load_prompts(spec, offline=options.offline).digest != record.get("digest"):
            raise InputError(
                f"{spec}: holds other {side} prompts than the run had ({record.get('spec')}); give them with --{side}"
            )
    source = resolve(
        options.model,
        revision=options.revision,
        offline=options.offline,
        trust_remote_code=options.trust_remote_code,
        progress=progress,
    )
    if hashes(source, progress) != manifest.get("source", {}).get("files"):
        raise InputError(f"{options.model}: has other weights than the run had; give the same revision with --model")


def compare(place: str, before: Any, after: Any) -> Iterator[Difference]:
    """Yield every leaf of two records that is not the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from compare(f"{place}.{name}" if place else name, before.get(name), after.get(name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from compare(f"{place}[{number}]", one, other)
    elif before != after:
        yield Difference(place, before, after)


def count(record: Any) -> int:
    """Return how many leaves a record has."""
    if isinstance(record, dict):
        return sum(map(count, record.values()))
    return sum(map(count, record)) if isinstance(record, list) else 1


def compare_files(folder: Path, out: Path) -> tuple[list[str], list[str]] | None:
    """Return the weight files that are the same and those that are not, None where none lie beside the manifest."""
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    if not any(name != "directions.safetensors" for name in names):
        return None
    equal = [
        name for name in names if (out / name).is_file() and content_hash(folder / name) == content_hash(out / name)
    ]
    return equal, [name for name in names if name not in equal]


def explain(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what differed in how the two runs were made."""
    versions = {"abliterate": before.get("abliterate"), **(before.get("versions") or {})}
    own = {"abliterate": after["abliterate"], **after["versions"]}
    changed = [f"{name} {versions.get(name)} -> {own[name]}" for name in own if versions.get(name) != own[name]]
    return tuple(changed) or ("the versions are the same: hardware, number of threads or processes",)
