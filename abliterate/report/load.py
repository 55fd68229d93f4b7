"""Reads what abliterate wrote about a checkpoint into one value, checked, so that nothing after it meets a surprise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abliterate.errors import InputError
from abliterate.evaluation.evaluation import FORMAT as EVALUATION_FORMAT
from abliterate.records.manifest import read_manifest
from abliterate.records.observations import OBSERVATIONS_FORMAT
from abliterate.records.schema import Maybe, check_shape, completed, malformed
from abliterate.records.shapes import EVALUATED, MANIFEST_SHAPE, OBSERVED, RATE
from abliterate.storage.foreign_files import parse_json, read_foreign, read_json
from abliterate.storage.names import EVALUATION, MANIFEST, OBSERVATIONS, STUDIES
from abliterate.studies.record import STUDY_FORMAT, STUDY_REPLY, STUDY_SHAPE


@dataclass(frozen=True)
class Gathered:
    """The manifest of a checkpoint, and what the run observed and an evaluation measured where these were kept.

    `studies` are the records of those that lie in the folder, by name, and `study_replies` the greedy replies that they were
    made of, where these lie beside them; where there is nothing else the manifest is empty.
    """

    manifest: Mapping[str, Any]
    observations: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    studies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    study_replies: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """Return the name of the model that the page is about."""
        if self.manifest:
            return str(self.manifest["source"]["model"])
        return str(next(iter(self.studies.values()))["model"])

    @property
    def depth(self) -> int:
        """Return how many layers the model has: the proof looked at the stream before the first and after each."""
        return len(self.manifest["proof"]["per_layer"]) - 1


def gather(folder: Path) -> Gathered:
    """Read the records in `folder`. Raises InputError when abliterate did not write it or one is malformed."""
    studies = gather_studies(folder)
    said = {name: gather_replies(folder / f"{name}-replies.jsonl") for name in studies}
    if studies and not (folder / MANIFEST).exists():
        return Gathered({}, studies=studies, study_replies=said)
    manifest = tidy(read_manifest(folder))
    check_shape(manifest, MANIFEST_SHAPE, str(folder / MANIFEST))
    manifest = completed(manifest, MANIFEST_SHAPE)
    search = manifest["search"]
    if search and not 0 <= search["chosen"] < len(search["points"]):
        raise malformed(str(folder / MANIFEST), "search.chosen", f"is {search['chosen']}, not one of the points")
    check_counts(manifest, str(folder / MANIFEST))
    observations = read_record(folder / OBSERVATIONS, OBSERVED, OBSERVATIONS_FORMAT)
    if observations is not None:
        check_observations(observations, str(folder / OBSERVATIONS))
    evaluation = read_record(folder / EVALUATION, EVALUATED, EVALUATION_FORMAT)
    if evaluation is not None:
        check_evaluation(evaluation, str(folder / EVALUATION))
    return Gathered(manifest, observations, evaluation, studies, said)


def gather_replies(path: Path) -> list[Any]:
    """Return the greedy replies in a study's file of them; none where it is not there. Raises InputError for a malformed one."""
    try:
        lines = read_foreign(path).split(b"\n")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); take it away, or run the study again") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = parse_json(line)
            except ValueError as error:
                raise InputError(f"{path}:{number}: {error}; take the file away, or run the study again") from error
            check_shape(row, STUDY_REPLY, f"{path}:{number}")
            rows.append(completed(row, STUDY_REPLY))
    return [row for row in rows if row["sample"] == 0]


def gather_studies(folder: Path) -> dict[str, Any]:
    """Return the records of the studies in a folder, by name. Raises InputError where one is malformed."""
    found = {name: read_record(folder / f"{name}.json", STUDY_SHAPE, STUDY_FORMAT) for name in STUDIES}
    return {name: record for name, record in found.items() if record is not None}


def read_record(path: Path, shape: Mapping[str, Any], form: int) -> Any:
    """Return what a record holds, or None when there is none. Raises InputError when it is malformed."""
    try:
        record = tidy(read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); write the file again with abliterate") from error
    if isinstance(record, dict) and "format" in record and record["format"] != form:
        raise InputError(
            f"{path}: has format {record['format']!r}, this version reads {form}; use the version that wrote it"
        )
    check_shape(record, shape, str(path))
    return completed(record, shape)


def tidy(value: Any) -> Any:
    """Return the value with null for every number that is not finite: the JSON of a browser has none of these."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: tidy(one) for name, one in value.items()}
    return [tidy(one) for one in value] if isinstance(value, list) else value


def check_counts(manifest: Mapping[str, Any], source: str) -> None:
    """Raise InputError where more prompts, or fewer than none, are said to be refused than there were."""
    search = manifest["search"] or {"points": []}
    counted = [("search.original", search["original"], "refusals")] if "original" in search else []
    counted += [(f"search.points[{number}]", one, "refusals") for number, one in enumerate(search["points"])]
    counted += [(f"trials[{number}]", one, "refused") for number, one in enumerate(manifest["trials"] or [])]
    counted += [(place, one, "kept") for place, one, _ in counted if one.get("kept_prompts")]
    for place, one, name in counted:
        prompts = one["kept_prompts" if name == "kept" else "prompts"]
        if not 0 <= (one[name] or 0) <= prompts:
            raise malformed(source, f"{place}.{name}", f"should be from 0 to the number of prompts, {prompts}")


def check_observations(record: Mapping[str, Any], source: str) -> None:
    """Raise InputError where tables and lists that belong together do not fit each other."""
    separation = record["separation"]
    for name in ("auc", "d"):
        wide = [len(separation["layers"])] * len(separation["positions"])
        if [*map(len, separation[name])] != wide:
            raise malformed(
                source, f"separation.{name}", "should have a row for each position, a number for each layer"
            )
    for number, plane in enumerate(record["pca"]["layers"]):
        for side in ("harmful", "harmless"):
            if [*map(len, plane[side])] != [2] * len(record["pca"]["prompts"][side]):
                raise malformed(source, f"pca.layers[{number}].{side}", "should have two numbers for each prompt")
        if len(plane["explained"]) != 2:
            raise malformed(source, f"pca.layers[{number}].explained", "should have two numbers")
    check_pairs(record["replies"]["original"], record["replies"]["edited"], source)


def check_evaluation(record: Mapping[str, Any], source: str) -> None:
    """Raise InputError where rates are missing or replies do not belong together."""
    for number, row in enumerate(record["by_length"] or []):
        for name in row.keys() - {"tokens"}:
            check_shape(row[name], {"model": RATE, "against": Maybe(RATE)}, source, f"by_length[{number}].{name}")
    if record["replies"].get("against"):
        check_pairs(record["replies"]["against"], record["replies"]["model"], source)


def check_pairs(
    before: Mapping[str, Sequence[Mapping[str, Any]]], after: Mapping[str, Sequence[Mapping[str, Any]]], source: str
) -> None:
    """Raise InputError unless both models answered the same prompts in the same order."""
    for side in sorted(before.keys() | after.keys()):
        asked = [[reply["prompt"] for reply in replies.get(side, [])] for replies in (before, after)]
        if asked[0] != asked[1]:
            raise malformed(source, f"replies, {side}", "should be to the same prompts for both models")
