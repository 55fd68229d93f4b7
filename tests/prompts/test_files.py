"""Files of prompts as people have them: separators of every kind, with and without a header, and what is no file."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from abliterate.errors import InputError
from abliterate.prompts.files import FILE_READERS, expanded, kind_of, lines_of, read_file, read_rows
from abliterate.prompts.prompt_set import load_prompts
from fixtures.patience import patience
from fixtures.prompts import TEXTS

SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
"""What str.splitlines takes for line ends, and a text editor does not."""


def put(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_bytes(text.encode())
    return str(path)


@pytest.mark.parametrize("mark", SEPARATORS)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_only_line_ends_end_a_prompt(tmp_path: Path, name: str, mark: str) -> None:
    if "json" in name and mark < " ":
        pytest.skip("JSON does not allow this character in a string")
    texts = [f"{text}{mark}now" for text in TEXTS]
    content = {
        ".txt": "\r\n".join(texts),
        ".jsonl": "\n".join(json.dumps({"prompt": text}, ensure_ascii=False) for text in texts),
        ".json": json.dumps(texts, ensure_ascii=False),
        ".csv": "prompt\n" + "\n".join(f'"{text}"' for text in texts),
        ".tsv": "prompt\n" + "\n".join(texts),
    }[Path(name).suffix]
    assert load_prompts(put(tmp_path, name, content)).prompts == tuple(texts)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_every_system(tmp_path: Path, end: str) -> None:
    assert load_prompts(put(tmp_path, "a.txt", end.join(TEXTS))).prompts == tuple(TEXTS)
    assert load_prompts(put(tmp_path, "a.csv", end.join(["prompt", *(f'"{one}"' for one in TEXTS)]))).prompts == tuple(
        TEXTS
    )
    assert lines_of("a\nb\u2028c") == ["a", "b\u2028c"]


PLAIN = [f"How do I do thing number {number}?" for number in range(12)]
TABLES = {
    "no header": "\n".join(PLAIN),
    "no header, blank lines": "\n\n" + "\n\n".join(PLAIN) + "\n\n",
    "no header, quoted": "\n".join(f'"{one}"' for one in PLAIN),
    "usual header": "Prompt\n" + "\n".join(PLAIN),
    "header that is a name": "harm_text\n" + "\n".join(PLAIN),
    "semicolons": "id;prompt\n" + "\n".join(f"{place};{one}" for place, one in enumerate(PLAIN)),
    "tabs": "prompt\tid\n" + "\n".join(f"{one}\t{place}" for place, one in enumerate(PLAIN)),
    "semicolons and a header with space": "id; prompt \n"
    + "\n".join(f"{place};{one}" for place, one in enumerate(PLAIN)),
    "byte order mark": "\ufeffid,prompt\n" + "\n".join(f"{place},{one}" for place, one in enumerate(PLAIN)),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_gives_its_prompts_whatever_separates_them(tmp_path: Path, name: str) -> None:
    assert load_prompts(put(tmp_path, "a.csv", TABLES[name])).prompts == tuple(PLAIN)


def test_a_delimiter_is_the_one_that_the_column_asks_for(tmp_path: Path) -> None:
    table = "left;right\n" + "\n".join(f"{place};{one}" for place, one in enumerate(PLAIN))
    assert load_prompts(put(tmp_path, "a.csv", table) + ":right").prompts == tuple(PLAIN)
    with pytest.raises(InputError, match=r"which column holds the prompts\? Name one of left, right"):
        load_prompts(put(tmp_path, "b.csv", table))


def test_prompts_hold_other_separators(tmp_path: Path) -> None:
    texts = [f"Plan a day; with {place}, two and more" for place in range(9)]
    semicolons = "id;prompt\n" + "\n".join(f'{place};"{one}"' for place, one in enumerate(texts))
    commas = "id,prompt\n" + "\n".join(f'{place},"{one}"' for place, one in enumerate(texts))
    tabs = "prompt\n" + "\n".join(texts)
    for name, table in (("a.csv", semicolons), ("b.csv", commas), ("c.tsv", tabs)):
        assert load_prompts(put(tmp_path, name, table)).prompts == tuple(texts)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("Hello\n" + "\n".join(PLAIN), "is the first line, 'Hello', a prompt or the column's name"),
        ("\n".join(f"{one}, please, now" * (1 + place % 2) for place, one in enumerate(PLAIN)), "quote prompts that hold a comma"),
        ("prompt,prompt\n" + "\n".join(f"{one},x" for one in PLAIN), "two columns are called 'prompt'"),
        ("prompt\n" + '"' + "\n".join(PLAIN), ":13: not CSV"),
        ("prompt\n" + "x" * 200_000, ":2: not CSV"),
    ],
)  # fmt: skip
def test_a_table_that_could_mean_two_things_is_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_prompts(put(tmp_path, "a.csv", table))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("suffix", FILE_READERS)
@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a socket", "a device"])
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, suffix: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    path = Path(f"list{suffix}")
    bound = socket.socket(socket.AF_UNIX)
    try:
        if kind == "a folder":
            path.mkdir()
        elif kind == "a pipe":
            os.mkfifo(path)
        elif kind == "a socket":
            bound.bind(str(path))
        else:
            path.symlink_to("/dev/zero")
        assert kind_of(path) == kind
        told = f"list{suffix}: is {kind}; give a file of prompts"
        with patience(), pytest.raises(InputError, match=told):
            load_prompts(str(path))
    finally:
        bound.close()


def test_a_file_without_a_suffix_says_which_are_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prompts are read from \.txt, "):
        load_prompts(put(tmp_path, "list", "\n".join(PLAIN)))
    with pytest.raises(InputError, match=r"/dev/zero: is a device"):
        load_prompts("/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = Path(put(tmp_path, "a.txt", "\n".join(PLAIN)))
    path.chmod(0)
    with pytest.raises(InputError, match=r"cannot be read .*Permission denied"):
        read_rows(path)


HOSTILE = {
    "deep.json": "[" * 100_000,
    "deep.jsonl": '"a"\n' + "[" * 100_000,
    "number.json": "1" * 5000,
    "number.jsonl": "1" * 5000,
    "half.json": json.dumps(["How \ud83d?", *PLAIN]),
    "half.jsonl": "\n".join(json.dumps({"prompt": one}) for one in ["How \ud83d?", *PLAIN]),
    "half-system.json": json.dumps([{"prompt": one, "system": "\udc00"} for one in PLAIN]),
    "long.json": json.dumps([{"prompt": ["x" * 9999]}] * 9),
    "names.json": json.dumps([{f"a{place}\n": "x" for place in range(9999)}]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_one_short_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_prompts(put(tmp_path, name, HOSTILE[name]))
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert len(said.encode()) <= 2000
    if name.startswith("half"):
        assert "row 1 holds half of a surrogate pair" in said


def test_a_parquet_file_of_other_types_is_one_line(tmp_path: Path) -> None:
    for number, values in enumerate([[1, 2], [b"\xff", b"a"], [None, None], [{"a": 1}] * 2]):
        path = tmp_path / f"{number}.parquet"
        parquet.write_table(pyarrow.Table.from_pylist([{"prompt": value} for value in values]), path)
        with pytest.raises(InputError, match="row 1 holds"):
            read_file(path, None)


def test_the_users_folder_is_put_in_for_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert expanded("~/a") == Path("/somewhere/a")
    assert expanded("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
    assert expanded("~\0") == Path("~\0")
