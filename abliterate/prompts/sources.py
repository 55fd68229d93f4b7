"""Prompt lists read from files and from the Hub."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from abliterate.errors import InputError, first_line

BUILTIN = ("harmful", "harmless", "look-alikes", "everyday")

PROMPT_COLUMNS = (
    "prompt",
    "instruction",
    "text",
    "question",
    "goal",
    "behavior",
    "query",
    "request",
    "content",
    "input",
)
"""Names under which published instruction lists keep their prompts, most usual first; case is ignored."""

HUB_SPEC = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*(:[^:]+){0,2}")


def public_spec(spec: str) -> str:
    """Return a SPEC without the folders of this machine: what may be published."""
    path, column = as_file(spec)
    return spec if path is None else path.name + (f":{column}" if column else "")


def builtin(name: str) -> list[str]:
    """Return one of the lists that the package ships. Raises InputError for an unknown name."""
    if name not in BUILTIN:
        raise InputError(
            f"builtin:{name}: unknown; the package ships {', '.join('builtin:' + known for known in BUILTIN)}"
        )
    text = (
        resources.files("abliterate")
        .joinpath("data")
        .joinpath("prompts")
        .joinpath(f"{name}.txt")
        .read_text(encoding="utf-8")
    )
    return text.splitlines()


def as_file(spec: str) -> tuple[Path | None, str | None]:
    """Return (path, column) when `spec` names a local file, else (None, None)."""
    path, _, column = spec.rpartition(":")
    for candidate, name in ((spec, None), (path, column)):
        if candidate and (Path(candidate).suffix.lower() in FILE_READERS or Path(candidate).is_file()):
            return Path(candidate), name
    return None, None


def read_file(path: Path, column: str | None) -> list[str]:
    """Read a local file of prompts by its suffix. Raises InputError as `load_prompts`."""
    if not path.is_file():
        raise InputError(f"{path}: no such prompt file; check the path")
    reader = FILE_READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: prompts are read from {', '.join(FILE_READERS)} files")
    try:
        rows = reader(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    if not rows:
        raise InputError(f"{path}: the file is empty; put a prompt on each line")
    return take_column(str(path), rows, column)


def read_txt(path: Path) -> list[Any]:
    """A prompt a line; blank lines are passed over."""
    return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def read_json(path: Path) -> list[Any]:
    """A JSON list of strings or of objects."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig") or "[]")
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno}: not JSON ({error.msg}); expected a list of strings or objects"
        ) from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: holds a JSON {type(rows).__name__}; expected a list of strings or objects")
    return rows


def read_jsonl(path: Path) -> list[Any]:
    """A JSON string or object a line."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{path}:{number}: not JSON ({error.msg}); expected a string or an object a line"
                ) from error
    return rows


def read_csv(path: Path) -> list[Any]:
    """Comma-separated values with a header line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            rows: list[Any] = list(reader)
        except csv.Error as error:
            raise InputError(f"{path}:{reader.line_num}: not CSV ({error})") from error
    for number, row in enumerate(rows, 2):
        if None in row:
            raise InputError(f"{path}:{number}: more fields than the header names; quote prompts that hold a comma")
    return rows


def read_parquet(path: Path) -> list[Any]:
    """An Apache Parquet table."""
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        return list(parquet.read_table(path).to_pylist())
    except arrow.ArrowInvalid as error:
        raise InputError(f"{path}: not a parquet file ({str(error).splitlines()[0]})") from error


FILE_READERS: dict[str, Callable[[Path], list[Any]]] = {
    ".txt": read_txt,
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
"""What reads a file of prompts, by its suffix: rows that are strings, or objects with a column of prompts."""


def read_hub(spec: str, *, offline: bool) -> list[str]:
    """Read `org/dataset[:split[:column]]` from the Hub, or from its cache when `offline`."""
    name, _, rest = spec.partition(":")
    split, _, column = rest.partition(":")
    table = hub_table(spec, name, split, offline)
    chosen = choose_column(spec, table.column_names, column or None)
    return [prompt_text(spec, number, value) for number, value in enumerate(table[chosen], 1)]


def hub_table(spec: str, name: str, split: str, offline: bool) -> Any:
    """Return a split of a dataset on the Hub, `train` by default. Raises InputError, naming `spec`, when it cannot be read."""
    import datasets

    try:
        return datasets.load_dataset(
            name, split=split or "train", download_config=datasets.DownloadConfig(local_files_only=offline)
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(
            f"{spec}: the dataset cannot be read from the Hub ({first_line(error)}); check the name, the split, your login"
        ) from error


def take_column(source: str, rows: Sequence[Any], column: str | None) -> list[str]:
    """Return the prompts of rows that are strings, or objects with a prompt column."""
    if all(isinstance(row, str) for row in rows):
        if column is not None:
            raise InputError(f"{source}: holds plain strings, so it has no column {column!r}; leave the column away")
        return list(rows)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"{source}: row {number} is a {type(row).__name__}; expected all strings or all objects")
    chosen = choose_column(source, list(dict.fromkeys(name for row in rows for name in row)), column)
    return [prompt_text(source, number, row.get(chosen)) for number, row in enumerate(rows, 1)]


def choose_column(source: str, names: Iterable[str], column: str | None) -> str:
    """Return the column that holds the prompts: the one asked for, the only one, or a usual name."""
    known = list(names)
    if column is not None:
        if column in known:
            return column
        raise InputError(f"{source}: no column {column!r}; it has {', '.join(known)}")
    if len(known) == 1:
        return known[0]
    for usual in PROMPT_COLUMNS:
        for name in known:
            if name.lower() == usual:
                return name
    raise InputError(f"{source}: which column holds the prompts? Name one of {', '.join(known)} after a colon")


def prompt_text(source: str, number: int, value: object) -> str:
    """Return `value` when it is a string, else raise InputError with its row."""
    if isinstance(value, str):
        return value
    raise InputError(f"{source}: row {number} holds {value!r} where a prompt is expected; it must be a string")
