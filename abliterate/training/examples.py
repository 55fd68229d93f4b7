"""What a model is healed with: a file or Hub dataset in one of TRL's standard formats, checked row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abliterate.errors import InputError
from abliterate.prompts.files import joined, read_rows
from abliterate.prompts.sources import as_file
from abliterate.prompts.stored_datasets import HUB_SPEC, hub_table

FORMATS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "sft": (("messages",), ("prompt", "completion"), ("text",)),
    "dpo": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
}
"""Columns that each method learns from, the most telling first; other columns are passed over.

https://huggingface.co/docs/trl/dataset_formats
"""

TRAINING_METHODS = tuple(FORMATS)

EXAMPLE_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

MESSAGE_ROLES = ("system", "user", "assistant", "tool")


def read_examples(spec: str, method: str, *, limit: int | None = None, offline: bool = False) -> list[dict[str, Any]]:
    """Read a `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` file, or `org/dataset[:split]` on the Hub: its first `limit` rows.

    A cell is a text, or a conversation as a list of {"role": ..., "content": ...}. Raises InputError for an unknown
    file or dataset, columns that `method` cannot learn from, and cells that are neither, with their row.
    """
    check_method(method)
    path, _ = as_file(spec)
    if path is not None:
        if path.suffix.lower() not in EXAMPLE_FILES:
            raise InputError(
                f"{path}: examples are read from {', '.join(EXAMPLE_FILES[:-1])} and {EXAMPLE_FILES[-1]} files"
            )
        if not path.exists():
            raise InputError(f"{path}: no such file; check --dataset")
        rows = read_rows(path)
    elif HUB_SPEC.fullmatch(spec):
        name, _, split = spec.partition(":")  # a slice holds a colon too
        rows = list(hub_table(spec, name, split, offline).to_list())
    else:
        raise InputError(f"{spec}: no such dataset; give a {joined(EXAMPLE_FILES)} file or org/dataset[:split]")
    return checked(spec, rows[:limit], method)


def check_method(method: str) -> None:
    """Raise InputError for an unknown method."""
    if method not in TRAINING_METHODS:
        raise InputError(f"--method {method}: unknown; choose among {', '.join(TRAINING_METHODS)}")


def checked(spec: str, rows: Sequence[Any], method: str) -> list[dict[str, Any]]:
    """Return the rows with the columns of their format alone."""
    if not rows:
        raise InputError(f"{spec}: the dataset is empty; it needs a row for each example")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"{spec}: row {number} is a {type(row).__name__}; expected an object with named columns")
    columns = columns_of(spec, list(rows[0]), method)
    kept = []
    for number, row in enumerate(rows, 1):
        missing = [name for name in columns if row.get(name) in (None, "", [])]
        if missing:
            raise InputError(f"{spec}: row {number} has no {missing[0]}; every row needs {' and '.join(columns)}")
        kinds = {name: example_kind(spec, number, name, row[name]) for name in columns}
        if len(set(kinds.values())) > 1 or (columns == ("messages",) and set(kinds.values()) != {"conversation"}):
            raise InputError(
                f"{spec}: row {number}: {', '.join(f'{name} is a {kind}' for name, kind in kinds.items())}; "
                "all must be texts or all conversations, and messages a conversation"
            )
        kept.append({name: row[name] for name in columns})
    return kept


def columns_of(spec: str, names: Sequence[str], method: str) -> tuple[str, ...]:
    """Return the columns to learn from. Raises InputError when the dataset fits the other method, or none."""
    for columns in FORMATS[method]:
        if set(columns) <= set(names):
            return columns
    wanted = " or ".join("+".join(columns) for columns in FORMATS[method])
    for other in TRAINING_METHODS:
        if other != method and any(set(columns) <= set(names) for columns in FORMATS[other]):
            raise InputError(
                f"{spec}: has the columns {', '.join(names)}, which --method {other} takes; {method} takes {wanted}"
            )
    raise InputError(f"{spec}: has the columns {', '.join(names)}; --method {method} takes {wanted}")


def example_kind(spec: str, number: int, name: str, value: object) -> str:
    """Return whether a cell is a text or a conversation."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, list) and all(
        isinstance(turn, dict) and turn.get("role") in MESSAGE_ROLES and isinstance(turn.get("content"), str)
        for turn in value
    ):
        return "conversation"
    raise InputError(
        f'{spec}: row {number}: {name} is neither a text nor a list of {{"role": ..., "content": ...}} objects '
        f"with roles {', '.join(MESSAGE_ROLES)}"
    )
