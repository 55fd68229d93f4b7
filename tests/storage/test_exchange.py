from __future__ import annotations

import ctypes
import errno
import json
import multiprocessing
import os
import re
import shutil
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

from abliterate.errors import InputError
from abliterate.storage import exchange as module
from abliterate.storage import staging
from abliterate.storage.exchange import NO_EXCHANGE, exchange, exchanged, numbers_of
from abliterate.storage.journal import JOURNAL
from abliterate.storage.staging import Staging, check_free
from fixtures.checkpoints import snapshot

SWAPS = 60

FILES = ["abliterate.json", "config.json", "x"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders, `new` and `old`, that hold their names."""
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    return tmp_path / "new", tmp_path / "old"


def texts(*paths: Path) -> list[str]:
    return [(path / "config.json").read_text() for path in paths]


def test_two_folders_swap_their_names(folders: tuple[Path, Path]) -> None:
    if not exchange(*folders):
        pytest.skip("this file system has no exchange")
    assert texts(*folders) == ["old", "new"]
    with pytest.raises(FileNotFoundError):
        exchange(folders[0], folders[0].with_name("gone"))


@pytest.mark.parametrize("number", sorted(NO_EXCHANGE))
def test_where_there_is_no_exchange_nothing_is_done(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    answers = SimpleNamespace(renameat2=lambda *arguments: -1)
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: answers)
    monkeypatch.setattr(ctypes, "get_errno", lambda: number)
    assert not exchange(*folders)
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EIO)
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.EIO))):
        exchange(*folders)
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: SimpleNamespace())
    assert not exchange(*folders)
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert not exchange(*folders)
    assert texts(*folders) == ["new", "old"]


def test_folders_are_known_by_their_numbers(folders: tuple[Path, Path]) -> None:
    new, old = folders
    numbers = numbers_of(new, old)
    assert not exchanged(numbers, new, old)
    assert not exchanged({}, new, old)
    shutil.copytree(new, new.with_name("another"))
    new.rename(new.with_name("third"))
    assert not exchanged(numbers, new, old)
    old.rename(new)
    assert not exchanged(numbers, new, old)
    new.with_name("third").rename(old)
    assert exchanged(numbers, new, old)
    old.rename(new.with_name("third"))
    new.with_name("another").rename(old)
    with pytest.raises(
        InputError, match=r"nothing says any more which of them is new; look at both, and move .*new away"
    ):
        exchanged(numbers, new, old)


def poll(destination: Path, ready: Connection, end: Connection) -> None:
    """Look at a folder until told to end; send how often, and what was seen that is neither the old nor the new."""
    looks, wrong = 0, set()
    ready.send(None)
    while not end.poll():
        looks += 1
        try:
            descriptor = os.open(destination, os.O_RDONLY)  # what is looked at is one folder, whatever its name is then
        except FileNotFoundError:
            wrong.add("absent")
            continue
        try:
            names = sorted(os.listdir(descriptor))  # noqa: PTH208
            # Else it was exchanged since: what was opened may be half removed by now.
            if destination.stat().st_ino == os.fstat(descriptor).st_ino and names != FILES:
                wrong.add(str(names))
        except FileNotFoundError:
            wrong.add("absent")
        finally:
            os.close(descriptor)
    ready.send((looks, sorted(wrong)))


def replace(destination: Path, number: int) -> None:
    with Staging.open(destination, f"identity {number}", force=True) as folder:
        for name in FILES:
            folder.write_text(name, str(number))
        folder.publish()


def test_who_looks_all_the_time_finds_a_whole_destination(
    tmp_path: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # as many swaps in a second as can be
    if not exchange(*folders):
        pytest.skip("this file system has no exchange")
    destination = tmp_path / "edited"
    replace(destination, 0)
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    (ready, told), (end, ending) = context.Pipe(duplex=False), context.Pipe(duplex=False)
    process = context.Process(target=poll, args=(destination, told, end))
    process.start()
    ready.recv()
    began = time.monotonic()
    for number in range(1, SWAPS + 1):
        replace(destination, number)
        if time.monotonic() - began > 10:
            break
    ending.send(None)
    looks, wrong = ready.recv()
    process.join()
    assert wrong == []
    assert looks > SWAPS
    assert set(snapshot(destination).values()) == {str(number).encode()}


def test_the_same_look_finds_the_gap_between_two_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test before can fail."""
    destination = tmp_path / "edited"
    replace(destination, 0)
    monkeypatch.setattr(staging, "exchange", lambda path, other: False)
    rename, seen = Path.rename, []

    def look(path: Path, target: Path) -> Path:
        moved = rename(path, target)
        seen.append(destination.exists())
        return moved

    monkeypatch.setattr(Path, "rename", look)
    replace(destination, 1)
    assert False in seen
    assert destination.exists()


def killed_after_the_swap(tmp_path: Path) -> Path:
    """Leave what a run leaves that was killed between the swap and the removal of what it replaced."""
    destination = tmp_path / "edited"
    replace(destination, 0)

    class Killed(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patch:
        swap = staging.exchange

        def kill(path: Path, other: Path) -> bool:
            if not swap(path, other):
                pytest.skip("this file system has no exchange")
            raise Killed

        patch.setattr(staging, "exchange", kill)
        with pytest.raises(Killed):
            replace(destination, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"edited", "edited.partial", f".edited{JOURNAL}"}
    return destination


def test_a_kill_after_the_swap_is_finished_by_the_next_run(tmp_path: Path) -> None:
    destination = killed_after_the_swap(tmp_path)
    with pytest.raises(InputError, match="edited exists; pass --force"):
        check_free(destination)
    assert {path.name for path in tmp_path.iterdir()} == {"edited"}
    assert set(snapshot(destination).values()) == {b"1"}


def test_what_was_replaced_and_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = tmp_path / "edited"
    replace(destination, 0)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(
        InputError, match=r"edited is complete, but what it replaced, .*edited.replaced, cannot be remov"
    ):
        replace(destination, 1)
    assert set(snapshot(destination).values()) == {b"1"}
    assert set(snapshot(tmp_path / "edited.replaced").values()) == {b"0"}
    monkeypatch.undo()
    replace(destination, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"edited"}


def test_folders_that_nothing_tells_apart_both_stay(tmp_path: Path) -> None:
    """Some file systems number their folders anew each time they are mounted."""
    destination = killed_after_the_swap(tmp_path)
    outside = tmp_path / f".edited{JOURNAL}"
    lines = [json.loads(line) for line in outside.read_text().splitlines() if line]
    lines[-1] |= {"new": 1, "old": 2}
    outside.write_text("\n".join(map(json.dumps, lines)))
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="nothing says any more which of them is new"):
        check_free(destination, force=True)
    assert snapshot(tmp_path) == before
    (tmp_path / "edited.partial").rename(tmp_path / "aside")
    check_free(destination, force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"edited", "aside"}
