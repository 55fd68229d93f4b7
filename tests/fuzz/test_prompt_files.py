"""Whatever a file of prompts holds, it is read, or refused in one short line.

`ABLITERATE_FUZZ` is the number of inputs of each kind: 50, or 10000 by hand.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from abliterate.prompts.files import FILE_READERS
from abliterate.prompts.prompt import Prompt
from abliterate.prompts.prompt_set import PromptSet, load_prompts
from fixtures.mutations import fuzz, outcome

WORDS = st.sampled_from(
    ["prompt", "messages", "role", "from", "user", "system", "content", "value", "category", "How do I bake bread?", "", "\u2028"]
)  # fmt: skip
TEXTS = WORDS | st.text(max_size=30) | st.text(st.characters(), max_size=10)
CELLS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
TURN = st.fixed_dictionaries({}, optional={"role": WORDS, "from": WORDS, "content": CELLS, "value": CELLS})
ROW = CELLS | st.lists(TURN, max_size=4) | st.fixed_dictionaries({}, optional={"prompt": CELLS, "messages": st.lists(TURN, max_size=4), "category": CELLS, "system": CELLS})  # fmt: skip
ROWS = st.lists(ROW, max_size=12)


def table(delimiter: str, rows: list[list[str]]) -> bytes:
    """A separated file, with quotes where they are needed."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode(errors="replace")


def as_parquet(columns: dict[str, list[Any]]) -> bytes:
    """A parquet file of columns that have a type, empty where they have none."""
    file = io.BytesIO()
    try:
        parquet.write_table(pyarrow.table(columns), file)
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError, UnicodeEncodeError):
        return b""
    return file.getvalue()


@st.composite
def mutated(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A file as it is, cut, or with some bytes changed."""
    content = bytearray(draw(whole))
    for place, byte in draw(
        st.lists(st.tuples(st.integers(0, max(0, len(content) - 1)), st.integers(0, 255)), max_size=3)
    ):
        if content:
            content[place] = byte
    return bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])


SEPARATED = st.builds(table, st.sampled_from([",", ";", "\t"]), st.lists(st.lists(TEXTS, max_size=4), max_size=12))
CONTENTS: dict[str, st.SearchStrategy[bytes]] = {
    ".txt": st.lists(TEXTS, max_size=20).map(lambda lines: "\n".join(lines).encode(errors="surrogatepass")),
    ".json": ROWS.map(json.dumps).map(str.encode) | st.integers(1, 100_000).map(lambda depth: b"[" * depth),
    ".jsonl": ROWS.map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    ".csv": SEPARATED,
    ".tsv": SEPARATED,
    ".parquet": st.builds(
        as_parquet,
        st.integers(0, 10).flatmap(
            lambda count: st.dictionaries(TEXTS, st.lists(CELLS, min_size=count, max_size=count), max_size=3)
        ),
    ),
}


def test_every_kind_of_file_has_contents() -> None:
    assert CONTENTS.keys() == FILE_READERS.keys()


@pytest.mark.parametrize("suffix", CONTENTS)
def test_a_file_is_read_or_refused_in_one_line(suffix: str) -> None:
    target(suffix)()


def target(suffix: str) -> Callable[[], None]:
    """Return a test of one kind of file, in a folder of its own."""

    @fuzz
    @given(
        mutated(CONTENTS[suffix]) | st.binary(max_size=200), st.sampled_from(["", ":prompt", ":messages", ":no\nsuch"])
    )
    def one(content: bytes, column: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"list{suffix}"
            path.write_bytes(content)
            read_or_refused(f"{path}{column}")

    return one


@fuzz
@given(
    st.text(max_size=60)
    | st.sampled_from(["org/data", "builtin:", "x.csv", ":", "~", "[", "/"]).flatmap(
        lambda head: st.text(max_size=9).map(head.__add__)
    )
)
def test_a_spec_is_read_or_refused_in_one_line(spec: str) -> None:
    read_or_refused(spec)


def read_or_refused(spec: str) -> None:
    """Check what comes of a SPEC: prompts that can be written and digested, or one line of at most 2 kB."""
    found = outcome(lambda: load_prompts(spec, offline=True))
    if found is not None:
        assert isinstance(found, PromptSet)
        assert found.digest
        assert all(isinstance(one, Prompt) and one.strip() == one for one in found.prompts)
