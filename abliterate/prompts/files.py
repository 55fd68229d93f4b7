"""Files of prompts: rows that are strings, conversations, or objects with columns."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from abliterate.errors import InputError, first_line, shortened
from abliterate.prompts.prompt import Prompt
from abliterate.prompts.rows import COLUMNS_OF_PROMPTS, rows_to_prompts
from abliterate.storage.foreign_files import no_file


def kind_of(path: Path) -> str | None:
    """Return `a file` or what else lies at a path, without opening it; None where nothing does."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a null character in the name
        return None
    return "a folder" if stat.S_ISDIR(mode) else no_file(mode) or "a file"


def expanded(path: str) -> Path:
    """Return a path with the user's folder in the place of a leading `~`; what names no user stays as it is."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):  # ValueError: a null character in the user's name
        return Path(path)


def read_file(path: Path, column: str | None) -> list[Prompt]:
    """Read a local file of prompts by its suffix. Raises InputError as `load_prompts`."""
    rows = read_rows(path, column)
    if not rows:
        raise InputError(f"{shown(path)}: the file is empty; put a prompt on each line")
    return rows_to_prompts(shown(path), rows, column)


def read_rows(path: Path, column: str | None = None) -> list[Any]:
    """Return the rows of a file by its suffix. Raises InputError for what is no file, or cannot be read or parsed."""
    kind = kind_of(path)
    if kind is None:
        raise InputError(f"{shown(path)}: no such prompt file; check the path")
    if kind != "a file":
        raise InputError(f"{shown(path)}: is {kind}; give a file of prompts")
    reader = FILE_READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{shown(path)}: prompts are read from {', '.join(FILE_READERS)} files")
    try:
        return reader(path, column) if reader is read_table else reader(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(path)}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read ({shortened(first_line(error), quoted=False)})") from error


def shown(path: Path) -> str:
    """Return a path on one line."""
    return shortened(str(path), 500, quoted=False)


def lines_of(text: str) -> list[str]:
    """Return the lines of a text whose line ends were read as line feeds; other separators are characters of a line."""
    return text.split("\n")


def read_txt(path: Path) -> list[Any]:
    """A prompt a line; blank lines are passed over."""
    return [line for line in lines_of(path.read_text(encoding="utf-8-sig")) if line.strip()]


def parsed(text: str, place: str, expected: str) -> Any:
    """Return the value of a JSON text. Raises InputError, with the line that `place` counts on from, when it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}:{error.lineno}: not JSON ({error.msg}); expected {expected}") from error
    except RecursionError as error:
        raise InputError(f"{place}: JSON nested too deep; expected {expected}") from error
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{place}: not JSON that can be read ({shortened(str(error), quoted=False)})") from error


def read_json(path: Path) -> list[Any]:
    """A JSON list of strings, of objects or of conversations."""
    rows = parsed(path.read_text(encoding="utf-8-sig") or "[]", shown(path), "a list of strings or objects")
    if not isinstance(rows, list):
        raise InputError(f"{shown(path)}: holds a JSON {type(rows).__name__}; expected a list of strings or objects")
    return rows


def read_jsonl(path: Path) -> list[Any]:
    """A JSON string, object or conversation a line."""
    rows = []
    for number, line in enumerate(lines_of(path.read_text(encoding="utf-8-sig")), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{shown(path)}:{number}: not JSON ({error.msg}); expected a string or an object a line"
                ) from error
            except RecursionError as error:
                raise InputError(f"{shown(path)}:{number}: JSON nested too deep") from error
            except ValueError as error:
                said = shortened(str(error), quoted=False)
                raise InputError(f"{shown(path)}:{number}: not JSON that can be read ({said})") from error
    return rows


DELIMITERS = (",", ";", "\t")
"""What stands between the fields of a table, the most usual first; .tsv files have tabs."""

NAME = re.compile(r"[a-z][a-z0-9]*|\w*_\w*")
"""One word that names a column and is hardly a prompt: `goal_text`, `behaviour`; `Hello` may be one."""


def read_table(path: Path, column: str | None = None) -> list[Any]:
    """Separated values. A first line of names is a header; a file of one column may go without.

    The delimiter is the one that makes the first line hold `column` or a usual name of prompts; failing that, the one
    that makes as many fields, more than one, of every line; failing that, each line is one field.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        text = file.read()
    delimiters = ("\t",) if path.suffix.lower() == ".tsv" else DELIMITERS
    fallback = parsed_table(path, text, delimiters[0], strict=False)
    if not fallback:
        return []
    for delimiter in delimiters:
        names = [name.strip() for name in first_record(text, delimiter)]
        if column in names or {name.lower() for name in names} & COLUMNS_OF_PROMPTS:
            return under_header(path, text, delimiter)
    for delimiter in delimiters:
        records = parsed_table(path, text, delimiter, strict=False)
        if records and len(records[0][1]) > 1 and len({len(record) for _, record in records}) == 1:
            return under_header(path, text, delimiter)
    return one_column(path, text, delimiters[0], column)


def first_record(text: str, delimiter: str) -> list[str]:
    """Return the fields of the first line that is not blank."""
    try:
        return next((record for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if record), [])
    except csv.Error:
        return []


def parsed_table(path: Path, text: str, delimiter: str, *, strict: bool) -> list[tuple[int, list[str]]]:
    """Return the records that are not blank, with the line that each ends on. Raises InputError where `strict` wants it."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    try:
        return [(reader.line_num, record) for record in reader if any(field.strip() for field in record)]
    except csv.Error as error:
        raise InputError(f"{shown(path)}:{reader.line_num}: not CSV ({error})") from error


def under_header(path: Path, text: str, delimiter: str) -> list[Any]:
    """Return the rows below a line of names."""
    (_, header), *records = parsed_table(path, text, delimiter, strict=True)
    names = [name.strip() for name in header]
    doubled = [name for place, name in enumerate(names) if name in names[:place] and name.lower() in COLUMNS_OF_PROMPTS]
    if doubled:
        raise InputError(f"{shown(path)}: two columns are called {shortened(doubled[0])}; rename one")
    rows: list[Any] = []
    for line, record in records:
        if len(record) > len(names):
            raise InputError(
                f"{shown(path)}:{line}: more fields than the header names; quote prompts that hold a {spoken(delimiter)}"
            )
        rows.append({name: record[place] if place < len(record) else None for place, name in enumerate(names)})
    return rows


def one_column(path: Path, text: str, delimiter: str, column: str | None) -> list[Any]:
    """Return the rows of a file of one column, whose first line is a prompt unless it can only be a name."""
    records = parsed_table(path, text, delimiter, strict=True)
    for line, record in records:
        if len(record) > 1:
            raise InputError(
                f"{shown(path)}:{line}: more fields than the first line has; name the columns in the first line, and quote "
                f"prompts that hold a {spoken(delimiter)}"
            )
    texts = [record[0] for _, record in records]
    first = texts[0].strip()
    if any(character.isspace() for character in first):
        return list(texts)
    if NAME.fullmatch(first):
        return [{first: value} for value in texts[1:]]
    raise InputError(
        f"{shown(path)}: is the first line, {shortened(first)}, a prompt or the column's name? "
        "Call the column prompt, or put that line first and the prompts below it"
    )


def spoken(delimiter: str) -> str:
    """Return a delimiter in words."""
    return {",": "comma", ";": "semicolon", "\t": "tab"}[delimiter]


def read_parquet(path: Path) -> list[Any]:
    """An Apache Parquet table."""
    from pyarrow import parquet

    try:
        return list(parquet.read_table(path).to_pylist())
    except Exception as error:  # whatever the library raises on what it did not write
        said = shortened(first_line(error), quoted=False)
        raise InputError(f"{shown(path)}: not a parquet file that can be read ({said})") from error


FILE_READERS: dict[str, Callable[..., list[Any]]] = {
    ".txt": read_txt,
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".csv": read_table,
    ".tsv": read_table,
    ".parquet": read_parquet,
}
"""What reads a file of prompts, by its suffix: rows that are strings, conversations, or objects with a column of prompts."""


def joined(rows: Sequence[str]) -> str:
    """Return several names as `a, b or c`."""
    *most, last = rows
    return f"{', '.join(most)} or {last}"
