from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.storage import journal as module
from abliterate.storage.journal import JOURNAL, append_journal, begin_journal, read_journal
from abliterate.storage.staging import Staging


def test_lines_are_put_together(tmp_path: Path) -> None:
    begin_journal(tmp_path, "one", {"a": 1})
    append_journal(tmp_path, {"files": {"b": 2}})
    append_journal(tmp_path, {"replaces": True, "new": 3, "old": 4})
    append_journal(tmp_path, {"files": {"a": 5}})
    expected = {"identity": "one", "replaces": True, "new": 3, "old": 4, "files": {"a": 5, "b": 2}}
    assert read_journal(tmp_path / JOURNAL) == expected
    begin_journal(tmp_path, "two", {})
    assert read_journal(tmp_path / JOURNAL) == {"identity": "two", "files": {}}
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


def test_what_is_torn_costs_one_line(tmp_path: Path) -> None:
    begin_journal(tmp_path, "one", {})
    for name in "abc":
        append_journal(tmp_path, {"files": {name: 1}})
    whole = (tmp_path / JOURNAL).read_bytes()
    for cut in range(len(whole)):
        (tmp_path / JOURNAL).write_bytes(whole[:cut])
        append_journal(tmp_path, {"files": {"late": 2}})
        files = read_journal(tmp_path / JOURNAL)["files"]
        assert files.pop("late") == 2
        assert list(files) in ([], ["a"], ["a", "b"], ["a", "b", "c"])
        assert len(files) >= whole[:cut].count(b"}}\n") - 1  # of the first line, which names none


@pytest.mark.parametrize("text", ["", "[]", "3\n", "\xff", '{"files": 3}', "[" * 100_000, '{"a": {}'])
def test_what_is_no_journal_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / JOURNAL).write_text(text, encoding="latin-1")
    found = read_journal(tmp_path / JOURNAL)
    assert found["files"] == {}
    assert "identity" not in found
    assert read_journal(tmp_path / "gone") == {"files": {}}


def test_a_journal_that_is_gone_is_not_begun_by_a_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        append_journal(tmp_path, {"files": {"a": 1}})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Staging.open(tmp_path / "edited", "identity") as staging:
        staging.write_text("a", "1")
        write = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:5]))
        with pytest.raises(InputError, match=r"disk full: .*b cannot be finished"):
            staging.write_text("b", "2")
        monkeypatch.undo()
        staging.write_text("c", "3")
    assert list(read_journal(staging.folder / JOURNAL)["files"]) == ["a", "c"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each write to a journal. Nothing waits for the disk."""
    sizes: list[int] = []

    def counted(write: Callable[..., None]) -> Callable[..., None]:
        def call(path: Path, flags: int, entry: dict[str, Any]) -> None:
            before = path.stat().st_size if path.exists() else 0
            write(path, flags, entry)
            sizes.append(path.stat().st_size - before if flags & os.O_APPEND else path.stat().st_size)

        return call

    monkeypatch.setattr(module, "_write", counted(module._write))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return sizes


@pytest.mark.parametrize("shards", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_shard_costs_one_line(tmp_path: Path, written: list[int], shards: int) -> None:
    names = [f"model-{number + 1:05d}-of-{shards:05d}.safetensors" for number in range(shards)]
    with Staging.open(tmp_path / "edited", "identity") as staging:
        for name in names:
            (staging.folder / name).touch()
            staging.finish(name)
    line = len(json.dumps({"files": {names[0]: 0}})) + 2
    assert written[1:] == [line] * shards  # none of them hangs on how many were finished before
    assert (staging.folder / JOURNAL).stat().st_size == sum(written)
    with Staging.open(tmp_path / "edited", "identity") as staging:
        assert all(staging.finished(name) for name in names)
    assert written[1 + shards] < shards * line  # taken over at once
    assert len(written) == 2 + shards
