"""Where prompts come from."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from abliterate.errors import InputError
from abliterate.prompts.files import FILE_READERS
from abliterate.prompts.prompt_set import load_prompts
from abliterate.prompts.rows import choose_column
from abliterate.prompts.sources import as_file, public_spec, read_spec
from abliterate.prompts.stored_datasets import HUB_SPEC
from fixtures.prompts import TEXTS


def write(folder: Path, name: str) -> Path:
    path = folder / name
    rows = [{"id": number, "instruction": text} for number, text in enumerate(TEXTS)]
    if path.suffix == ".txt":
        path.write_text("\n".join(TEXTS) + "\n\n", encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(TEXTS if name == "plain.json" else rows))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".tsv":
        path.write_text("id\tinstruction\n" + "\n".join(f"{row['id']}\t{row['instruction']}" for row in rows))
    elif path.suffix == ".csv":
        path.write_text("id,instruction\n" + "\n".join(f'{row["id"]},"{row["instruction"]}"' for row in rows))
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("name", ["a.txt", "plain.json", "a.json", "a.jsonl", "a.csv", "a.tsv", "a.parquet"])
def test_every_kind_of_file_gives_the_same_prompts(tmp_path: Path, name: str) -> None:
    assert load_prompts(str(write(tmp_path, name))).prompts == tuple(TEXTS)


def test_a_column_can_be_named(tmp_path: Path) -> None:
    assert load_prompts(f"{write(tmp_path, 'a.jsonl')}:instruction").prompts == tuple(TEXTS)


@pytest.mark.parametrize("name", ["harmful", "harmless", "everyday"])
def test_the_package_ships_prompts(name: str) -> None:
    assert len(load_prompts(f"builtin:{name}")) >= 100


BROKEN = {
    "empty.txt": ("", "the file is empty"),
    "empty.json": ("", "the file is empty"),
    "broken.json": ('["a",\n "b"', ":2: not JSON"),
    "object.json": ('{"a": 1}', "holds a JSON dict"),
    "broken.jsonl": ('"a"\n{"b": \n', ":2: not JSON"),
    "mixed.json": ('["a", 3]', "row 1 is a str"),
    "number.json": ('[{"prompt": 3}]', "row 1 holds 3"),
    "columns.json": ('[{"left": "a", "right": "b"}]', "which column holds the prompts"),
    "fields.csv": ("prompt\na\nb,c\n", ":3: more fields"),
    "broken.parquet": ("nothing", "not a parquet file"),
    "few.txt": ("a\nb\nc\n", "holds 3 prompts; give at least 8"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError) as raised:
        load_prompts(str(path))
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_text_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("é\n".encode("latin-1") * 9)
    with pytest.raises(InputError, match="not UTF-8 text at byte 0"):
        load_prompts(str(path))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.txt", "no such prompt file"),
        ("nowhere", "no such prompt file"),
        ("builtin:nothing", "the package ships"),
        ("~/nowhere.txt", "^(?!~).*nowhere.txt: no such prompt file"),
        ("no\0name.txt", "no such prompt file"),
        ("x" * 9999 + ".txt", "no such prompt file"),
        ("y" * 9999, "no such prompt file"),
        ("org/does-not-exist", "cannot be read from the Hub"),
    ],
)
def test_a_source_that_is_not_there_says_so(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_prompts(spec, offline=True)


def test_an_unknown_column_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it has id, instruction"):
        load_prompts(f"{write(tmp_path, 'a.csv')}:prompt")


def test_a_reader_that_is_added_is_a_line_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        FILE_READERS, ".list", lambda path: [line.split("|")[1] for line in path.read_text().splitlines()]
    )
    path = tmp_path / "prompts.list"
    path.write_text("\n".join(f"{number}|prompt {number}" for number in range(9)))
    assert load_prompts(str(path)).prompts == tuple(f"prompt {number}" for number in range(9))
    with pytest.raises(
        InputError, match=r"give a \.txt, \.json, \.jsonl, \.csv, \.tsv, \.parquet or \.list file or org"
    ):
        load_prompts("no such thing")


def test_a_file_and_its_column_are_told_apart(tmp_path: Path) -> None:
    assert as_file("lists/mine.csv:goal") == (Path("lists/mine.csv"), "goal")
    assert as_file("lists/mine.csv") == (Path("lists/mine.csv"), None)
    assert as_file("org/dataset:train:goal") == (None, None)
    odd = tmp_path / "no:suffix"
    odd.write_text("x")
    assert as_file(str(odd)) == (odd, None)
    assert as_file(f"{odd}:goal") == (odd, "goal")


def test_what_is_published_names_no_folder() -> None:
    assert public_spec("/home/me/lists/mine.csv:goal") == "mine.csv:goal"
    assert public_spec("/home/me/mine.txt") == "mine.txt"
    assert public_spec("org/dataset:train:goal") == "org/dataset:train:goal"


def test_the_usual_column_is_found_whatever_its_case() -> None:
    assert choose_column("x", ["id", "Goal"], None) == "Goal"
    assert choose_column("x", ["goal", "Instruction"], None) == "Instruction"  # the more usual
    assert choose_column("x", ["goal", "id"], "id") == "id"
    with pytest.raises(InputError, match="id"):
        choose_column("x", ["id", "number"], None)


@pytest.mark.parametrize("spec", ["../x", "./x", ".hidden/x", "x/..", "x/.git", "../x:train:text", "-x/y"])
def test_a_path_is_no_name_on_the_hub(spec: str) -> None:
    assert not HUB_SPEC.fullmatch(spec)
    assert HUB_SPEC.fullmatch(f"org/{spec.strip('./-:').replace('/', '-')}")


def test_a_tilde_is_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "a.csv")
    assert as_file("~/a.csv:instruction") == (tmp_path / "a.csv", "instruction")
    assert load_prompts("~/a.csv").prompts == tuple(TEXTS)
    assert public_spec("~/a.csv:instruction") == "a.csv:instruction"


def test_a_spec_is_of_the_first_kind_that_matches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_spec("builtin:harmful", offline=True)[0] == load_prompts("builtin:harmful").prompts[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "data").mkdir()
    with pytest.raises(InputError, match="cannot be read from the Hub"):
        read_spec("org/data", offline=True)  # a folder that holds no dataset hides no name on the Hub
    with pytest.raises(InputError, match=r"org: is a folder; give a file of prompts, or a folder that save_to_disk"):
        read_spec("org", offline=True)
