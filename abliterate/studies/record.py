"""The record of a study: what was asked of which model, what was found, beside which controls, and what follows.

`NAME.json` holds it, `NAME.safetensors` the vectors (unit rows `form/place/resid.N`, lengths in the metadata, as in
`directions.safetensors`), `NAME-replies.jsonl` the texts, which stay on this machine. The same study gives the same bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from abliterate.directions.files import DIRECTIONS_RECORD
from abliterate.errors import InputError
from abliterate.projection import ZERO_LENGTH, normalize
from abliterate.records.schema import Each, Maybe, check_shape
from abliterate.storage.atomic import write_text_whole, written_whole
from abliterate.storage.names import STUDIES
from abliterate.studies.common import Verdict

STUDY_FORMAT = 1

VECTOR_NAME = re.compile(r"[^/]+/[^/]+/resid\.\d+")

STUDY_SHAPE = {
    "format": int, "study": str, "model": str, "revision": Maybe(str), "dtype": str, "digests": Each(str), "seed": int,
    "settings": {}, "results": {}, "controls": {}, "notes": [str],
    "verdicts": [{"claim": str, "figure": str, "control": str, "verdict": str, "sentence": str}],
}  # fmt: skip

STUDY_REPLY = {
    "form": str, "side": str, "phrase": str, "sample": int, "text": str, "when": Maybe(str),
    "segments": Maybe([{"concept": str, "begin": int, "end": int, "text": str}]),
}  # fmt: skip
"""What every line of `NAME-replies.jsonl` holds; `sample` 0 is the greedy reply, `when` is of an edit's study."""


@dataclass(frozen=True)
class StudyRecord:
    """One study of one model. `digests` are those of forms and phrases; what is not finite is written as null.

    Raises InputError for a study that is not there.
    """

    study: str
    model: str
    revision: str | None
    dtype: str
    digests: Mapping[str, str]
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, Any] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.study not in STUDIES:
            raise InputError(f"{self.study}: no such study; there are {', '.join(STUDIES)}")

    def to_json(self) -> dict[str, Any]:
        """Return the content of `NAME.json`."""
        return {
            "format": STUDY_FORMAT,
            "study": self.study,
            "model": self.model,
            "revision": self.revision,
            "dtype": self.dtype,
            "digests": dict(self.digests),
            "seed": self.seed,
            "settings": plain(self.settings),
            "results": plain(self.results),
            "controls": plain(self.controls),
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "notes": list(self.notes),
        }


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: tuples as lists, NaN and infinity as None, what has a `to_json` by that.

    Raises TypeError for anything else.
    """
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"a record cannot hold a {type(value).__name__}: {value!r}")


def write_study(
    folder: Path,
    record: StudyRecord,
    vectors: Mapping[str, Float[Tensor, " d_model"]] | None = None,
    replies: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Write the files of a study into `folder`, each whole or not at all, the record last; return the record's path.

    Raises InputError for a vector that is not named `form/place/resid.N` or has no direction, and where the folder cannot
    be written.
    """
    text = json.dumps(record.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    rows, about = unit_vectors(record, vectors or {})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if rows:
            with written_whole(folder / f"{record.study}.safetensors") as partial:
                # One entry: the library writes several in an order that changes from run to run, and so the bytes.
                save_file(rows, partial, metadata={DIRECTIONS_RECORD: json.dumps(about)})
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another place with --out") from error
    if replies is not None:
        lines = (json.dumps(plain(reply), ensure_ascii=False, allow_nan=False) for reply in replies)
        write_text_whole(folder / f"{record.study}-replies.jsonl", "".join(f"{line}\n" for line in lines))
    path = folder / f"{record.study}.json"
    write_text_whole(path, text)
    return path


def unit_vectors(
    record: StudyRecord, vectors: Mapping[str, Float[Tensor, " d_model"]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the vectors as unit rows in float32, and what the metadata says of them: their lengths, and where they are from."""
    for name, vector in vectors.items():
        if not VECTOR_NAME.fullmatch(name):
            raise InputError(f"a vector of the study is called {name}; expected form/place/resid.N")
        if not ZERO_LENGTH < float(vector.double().norm()) < math.inf:
            raise InputError(f"the vector {name} has no direction: its length is {float(vector.double().norm())}")
    rows = {name: normalize(vector.cpu().double()).float().contiguous() for name, vector in sorted(vectors.items())}
    lengths = {name: float(vectors[name].cpu().double().norm()) for name in rows}
    about = {"study": record.study, "model": record.model, "revision": record.revision, "digests": dict(record.digests)}
    return rows, {**about, "lengths": lengths}


def read_study(path: Path) -> StudyRecord:
    """Return what a `NAME.json` holds. Raises InputError when it cannot be read, or is none."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the study again") from error
    if isinstance(held, dict) and held.get("format", STUDY_FORMAT) != STUDY_FORMAT:
        raise InputError(
            f"{path}: has the format {held['format']}, and this version reads {STUDY_FORMAT}; run the study again"
        )
    check_shape(held, STUDY_SHAPE, str(path))
    names = [one.name for one in fields(Verdict)]
    verdicts = tuple(Verdict(*(one[name] for name in names)) for one in held["verdicts"])
    kept = {name: held[name] for name in STUDY_SHAPE if name != "format"}
    return StudyRecord(**{**kept, "verdicts": verdicts, "notes": tuple(held["notes"])})
