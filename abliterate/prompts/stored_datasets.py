"""Datasets of the `datasets` library: on the Hub, or in a folder that `save_to_disk` made; whole splits or slices."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from abliterate.errors import InputError, first_line, shortened
from abliterate.hub.names import HUB_NAME
from abliterate.prompts.files import expanded, kind_of
from abliterate.prompts.prompt import Prompt
from abliterate.prompts.rows import BESIDE, beside, choose_column, rows_to_prompts

SPLIT = r"(?:[^:\[\]]*\[[^\[\]]*\])+|[^:\[\]]+"
"""A split, or slices of splits: `train`, `train[:400]`, `train[:10%]+test[5:]`."""

HUB_SPEC = re.compile(rf"(?P<name>{HUB_NAME.pattern})(?::(?P<split>{SPLIT}))?(?::(?P<column>[^:]+))?")

SAVED = ("state.json", "dataset_dict.json")
"""Files of which `save_to_disk` writes one: for a dataset, for several splits."""


def as_folder(spec: str) -> tuple[Path | None, str, str | None]:
    """Return (folder, split, column) when `spec` names a saved dataset, else (None, "", None)."""
    parts = spec.split(":")
    for count in range(len(parts), 0, -1):
        folder = expanded(":".join(parts[:count]))
        if kind_of(folder) == "a folder" and any(kind_of(folder / name) == "a file" for name in SAVED):
            rest = re.fullmatch(rf"(?:(?P<split>{SPLIT}))?(?::(?P<column>[^:]+))?", ":".join(parts[count:]))
            if rest:
                return folder, rest["split"] or "", rest["column"]
    return None, "", None


def read_folder(spec: str) -> list[Prompt]:
    """Read `FOLDER[:split[:column]]`. Raises InputError when it cannot be read or has no such split or column."""
    folder, split, column = as_folder(spec)
    assert folder is not None
    return table_to_prompts(spec, saved_table(spec, folder, split), column)


def saved_table(spec: str, folder: Path, split: str) -> Any:
    """Return a split, or slices of it, of a dataset in a folder: `train` where there are several and none is named."""
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
        splits = found if isinstance(found, datasets.DatasetDict) else {str(found.split or "train"): found}
        asked = split or ("train" if "train" in splits or len(splits) != 1 else next(iter(splits)))
        lengths = {name: table.num_rows for name, table in splits.items()}
        parts = datasets.ReadInstruction.from_spec(asked).to_absolute(lengths)
        tables = [
            splits[one.splitname].select(range(one.from_ or 0, lengths[one.splitname] if one.to is None else one.to))
            for one in parts
        ]
        return datasets.concatenate_datasets(tables)
    except Exception as error:  # whatever the libraries raise on what they did not write
        said = shortened(first_line(error), quoted=False)
        raise InputError(
            f"{shortened(spec, 500, quoted=False)}: the saved dataset cannot be read ({said}); check the split"
        ) from error


def read_hub(spec: str, *, offline: bool) -> list[Prompt]:
    """Read `org/dataset[:split[:column]]` from the Hub, or from its cache when `offline`."""
    found = HUB_SPEC.fullmatch(spec)
    assert found is not None
    return table_to_prompts(spec, hub_table(spec, found["name"], found["split"] or "", offline), found["column"])


def hub_table(spec: str, name: str, split: str, offline: bool) -> Any:
    """Return a split of a dataset on the Hub, `train` by default. Raises InputError, naming `spec`, when it cannot be read."""
    import datasets

    try:
        return datasets.load_dataset(
            name, split=split or "train", download_config=datasets.DownloadConfig(local_files_only=offline)
        )
    except Exception as error:  # whatever the library raises on what strangers have put there
        said = shortened(first_line(error), 500, quoted=False)
        raise InputError(
            f"{spec}: the dataset cannot be read from the Hub ({said}); check the name, the split, your login"
        ) from error


def table_to_prompts(source: str, table: Any, column: str | None) -> list[Prompt]:
    """Return the prompts of a `datasets.Dataset`. Raises InputError as `rows_to_prompts`."""
    names = list(table.column_names)
    chosen = choose_column(source, names, column)
    wanted = [chosen, *(one for usual in BESIDE if (one := beside(names, usual, chosen)) is not None)]
    return rows_to_prompts(source, list(table.select_columns(wanted).to_list()), chosen)
