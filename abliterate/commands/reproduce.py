"""`abliterate reproduce`: repeat a run from its manifest, and say what came out otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from abliterate.checkpoints.checkpoint import content_hash
from abliterate.errors import InputError
from abliterate.hub.download import download
from abliterate.hub.errors import hub_errors
from abliterate.hub.names import is_plain_revision, is_recorded_name
from abliterate.hub.push import WEIGHT_FILES, quiet_hub
from abliterate.pipeline.command import FETCHED, options_of_command
from abliterate.pipeline.conditions import LISTS
from abliterate.pipeline.form_direction import check_recorded_form
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.open_prompts import check_recorded_prompts
from abliterate.pipeline.options import Options
from abliterate.pipeline.reproduce_options import ReproduceOptions
from abliterate.pipeline.run import Result, run
from abliterate.progress import SILENT, Progress
from abliterate.records.manifest import hashes, part, read_manifest
from abliterate.storage.names import DIRECTIONS, MANIFEST

COMPARED = ("direction", "selection", "search", "trials", "recipe", "tensors", "proof", "figures")
"""What of a manifest is a result; the rest says how it came about."""


@dataclass(frozen=True)
class ManifestDifference:
    """Something that came out otherwise: its place in the manifest, or a file."""

    place: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Reproduced:
    """A run that was repeated: what differs from the manifest, of how many values, and what may explain it.

    `files` counts the weight files that came out the same bit for bit, and all; None where none could be compared,
    and `notes` say why.
    """

    result: Result
    differences: tuple[ManifestDifference, ...]
    compared: int
    files: tuple[int, int] | None
    explanations: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


@dataclass(frozen=True)
class Weights:
    """The weight files that a manifest came with, by name: where they lie on this machine, or what the Hub says of them.

    `place` says where they are, `complete` that there are no others, `note` what could not be asked.
    """

    files: Mapping[str, Path | RepoFile]
    place: str
    complete: bool = False
    note: str | None = None


def reproduce(name: str, given: ReproduceOptions, out: Path, progress: Progress = SILENT) -> Reproduced:
    """Repeat the run of a manifest (its file, its folder, or a Hub repository) into `out`, and compare.

    Raises InputError where the manifest asks for what it may not decide, its prompts or model are not at hand or are
    others than those that it names, HubError where the Hub does not say what it holds, and all that `pipeline.run`
    raises.
    """
    folder = folder_of(name, given.offline)
    manifest = read_manifest(folder)
    options = repeated_options(manifest, given, folder, out)
    weights = weights_of(name, folder, given.offline)  # before the run, which may take hours
    check_ingredients(manifest, options, progress)
    result = run(options, progress)
    before, after = ({key: one.get(key) for key in COMPARED} for one in (manifest, result.manifest))
    files, differing = compare_files(weights, out, progress)
    differences = (*compare_manifests("", before, after), *differing)
    notes = () if weights.note is None else (weights.note,)
    return Reproduced(result, differences, count(before), files, explain(manifest, result.manifest), notes)


def folder_of(name: str, offline: bool) -> Path:
    """Return the folder that holds the manifest which `name` names."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        if path.name != MANIFEST:
            raise InputError(f"{name}: is not a manifest; give {MANIFEST}, its folder, or a Hub repository")
        return path.parent
    return download(name, None, offline, FETCHED)


def repeated_options(manifest: Mapping[str, Any], given: ReproduceOptions, folder: Path, out: Path) -> Options:
    """Return the options of the run that the manifest tells of, as far as it may, and of whoever repeats it."""
    words = manifest.get("command")
    if not isinstance(words, list) or words[1:2] == ["apply"]:
        raise InputError(
            f"{folder / MANIFEST}: tells of no run that could be repeated; an apply is repeated by its own command"
        )
    files = (*LISTS, "chat_template", "phrases", "forms")
    own_words = {name: getattr(given, name) for name in files if getattr(given, name) is not None}
    found = options_of_command(words, folder, set(own_words)) | own_words
    source = manifest.get("source")
    model = given.model or (source.get("model") if isinstance(source, dict) else None)
    if given.model is None:
        revision = source.get("revision") if isinstance(source, dict) else None
        if not is_recorded_name(model, revision) or os.path.lexists(str(model)):
            raise InputError(
                f"the manifest names the model {model!r}, which is not on the Hub; say where it is with --model"
            )
        if revision is not None and not is_plain_revision(revision):
            raise InputError(f"the manifest names the revision {revision!r}, which is no commit; give --model")
        found["revision"] = revision
    seed = manifest.get("seed")
    own = {
        "device": given.device,
        "max_memory": given.max_memory,
        "offline": given.offline,
        "trust_remote_code": given.trust_remote_code,
        "allow_unproved": given.allow_unproved,
        **judge_given(manifest, given),
    }
    return Options(str(model), out, **({"seed": seed} if isinstance(seed, int) else {}) | found | own)


def judge_given(manifest: Mapping[str, Any], given: ReproduceOptions) -> dict[str, str | None]:
    """Return who shall judge the edits of the search. Raises InputError where somebody did, and nobody is named."""
    judge = part(manifest, "search").get("judge")
    if judge is not None and given.judge is None and given.judge_endpoint is None:
        raise InputError(
            f"the edits of its search were judged by {judge!r}, which a manifest may not choose; say who shall with --judge or "
            "--judge-endpoint"
        )
    return {name: getattr(given, name) for name in ("judge", "judge_endpoint", "judge_model")}


def check_ingredients(manifest: Mapping[str, Any], options: Options, progress: Progress) -> None:
    """Raise InputError unless prompts and weights are those that the manifest names, by their hashes."""
    prompts = part(manifest, "prompts")
    asked = [("harmful", "harmful"), ("harmless", "harmless")]
    if options.mode == "calm":
        options = replace(options, report_look_alikes=options.measured_look_alikes)
        asked += [("look-alikes", "look_alikes"), ("look-alikes, report", "report_look_alikes")]
    asked += [("keep", "keep")]
    for side, name in asked:
        if getattr(options, name) is None:
            continue
        record = prompts.get(side) or {}
        check_recorded_prompts(options, name, record.get("digest"), str(record.get("spec")))
    check_recorded_form(options, part(manifest, "direction"))
    source = open_source(options, progress)
    if hashes(source, progress) != part(manifest, "source").get("files"):
        raise InputError(f"{options.model}: has other weights than the run had; give the same revision with --model")


def compare_manifests(place: str, before: Any, after: Any) -> Iterator[ManifestDifference]:
    """Yield every leaf of two records that is not the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from compare_manifests(f"{place}.{name}" if place else name, before.get(name), after.get(name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from compare_manifests(f"{place}[{number}]", one, other)
    elif before != after:
        yield ManifestDifference(place, before, after)


def count(record: Any) -> int:
    """Return how many leaves a record has."""
    if isinstance(record, dict):
        return sum(map(count, record.values()))
    return sum(map(count, record)) if isinstance(record, list) else 1


def weights_of(name: str, folder: Path, offline: bool) -> Weights:
    """Return the weight files that came with the manifest which `name` names and which lies in `folder`.

    Of a Hub repository they are those of the commit whose manifest was downloaded, by the Hub's listing: no weights
    are fetched. Offline they are those in its cache. Raises HubError when the Hub refuses or cannot be reached.
    """
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    here = {one: folder / one for one in names} if set(names) - {DIRECTIONS} else {}
    if Path(name).expanduser().exists():
        note = None if here else "no weights lie beside the manifest; none were compared"
        return Weights(here, "beside the manifest", note=note)
    if offline or constants.HF_HUB_OFFLINE:
        compared = "those in its cache" if here else "none"
        note = f"the Hub cannot be asked for its weights offline; {compared} were compared"
        return Weights(here, "in the Hub's cache", note=note)
    with hub_errors(name), quiet_hub():
        entries = HfApi(library_name="abliterate").list_repo_tree(name, recursive=True, revision=folder.name)
        found = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    return Weights({path: entry for path, entry in found.items() if is_weights(path)}, "on the Hub", complete=True)


def is_weights(path: str) -> bool:
    """Whether a file of a repository holds weights: any safetensors, and what transformers loads without them."""
    return path.endswith(".safetensors") or (path.endswith(".bin") and WEIGHT_FILES.fullmatch(path) is not None)


def compare_files(
    weights: Weights, out: Path, progress: Progress = SILENT
) -> tuple[tuple[int, int] | None, tuple[ManifestDifference, ...]]:
    """Return how many weight files are the same and how many there are, None for none; and those that are not.

    Below the top of a repository only what the run writes there counts: the rest is not what transformers loads.
    """
    written = {path.relative_to(out).as_posix(): path for path in out.rglob("*.safetensors")}
    names = {name for name in weights.files if "/" not in name}
    names |= {name for name in written if weights.complete or name in weights.files}
    differences = []
    for name in sorted(names):
        before = f"the file {weights.place}" if name in weights.files else f"not {weights.place}"
        if name not in written:
            differences.append(ManifestDifference(name, before, "not written"))
        elif name not in weights.files:
            differences.append(ManifestDifference(name, before, "written"))
        elif not same_bytes(weights.files[name], written[name], progress):
            differences.append(ManifestDifference(name, before, "other bytes"))
    return (len(names) - len(differences), len(names)) if names else None, tuple(differences)


def same_bytes(one: Path | RepoFile, written: Path, progress: Progress) -> bool:
    """Whether a file holds the bytes of another, or those that the Hub names by a hash.

    The Hub lists the sha256 of a file in LFS, and the git blob id of any other, which is a small one.
    """
    if isinstance(one, Path):
        return content_hash(one, progress) == content_hash(written, progress)
    if written.stat().st_size != one.size:
        return False
    if one.lfs is not None:
        return content_hash(written, progress) == one.lfs.sha256
    return git_hash(written.read_bytes()) == one.blob_id


def explain(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what differed in how and where the two runs were made."""
    then, now = ({"abliterate": one.get("abliterate"), **made(one)} for one in (before, after))
    changed = [f"{name} {then.get(name, 'unknown')} -> {now[name]}" for name in now if then.get(name) != now[name]]
    return tuple(changed) or (
        "versions, device, processor and threads are the same; the number of processes may not be",
    )


def made(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return versions and hardware of a manifest, which may be anybody's: what is no object counts for nothing."""
    parts = [manifest.get("versions"), manifest.get("hardware")]
    return {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
