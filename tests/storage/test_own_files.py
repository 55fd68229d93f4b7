"""Files at names that others can guess: a link there is not followed, and what is another user's is not taken."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate.activations.cache import read_cached
from abliterate.cli.failures import write_log
from abliterate.errors import InputError
from abliterate.storage import own_files
from abliterate.storage import staging as staging_module
from abliterate.storage.atomic import write_text_whole, written_whole
from abliterate.storage.own_files import (
    append_own,
    discard_link,
    is_folder,
    is_own_file,
    open_own,
    own_folder,
    read_own,
    read_own_json,
    require_own,
    write_own,
)
from abliterate.storage.record_log import RecordLog, Unfinished
from abliterate.storage.staging import JOURNAL, JOURNAL_DRAFT, Staging, check_free

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and owners are those of Unix")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "precious"
    path.parent.mkdir()
    path.write_text("precious")
    return path


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is there already is another user's."""
    monkeypatch.setattr(own_files.os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(own_files, "made_by", lambda folder: os.getuid() + 1)


USES: dict[str, Callable[[Path], object]] = {
    "open": lambda path: os.close(open_own(path, os.O_RDWR | os.O_CREAT)),
    "read": read_own,
    "append": lambda path: append_own(path).close(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_not_followed(tmp_path: Path, victim: Path, use: Callable[[Path], object], there: bool) -> None:
    target = victim if there else victim.with_name("made")
    for name, way in (("one", target), ("two", tmp_path / "one")):
        (tmp_path / name).symlink_to(way)
        with pytest.raises(OSError, match=f"{name} is a link, which is not followed"):
            use(tmp_path / name)
    assert [path.name for path in victim.parent.iterdir()] == ["precious"]
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_pipe_a_folder_and_a_device_are_no_files(tmp_path: Path, use: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"pipe is not a file|No such device"):
        use(tmp_path / "pipe")
    with pytest.raises(OSError, match="is not a file"):
        use(Path(os.devnull))
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        use(tmp_path / "folder")


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_is_another_users_is_not_taken(victim: Path, use: Callable[[Path], object]) -> None:
    with pytest.raises(OSError, match="precious belongs to another user"):
        use(victim)
    assert not is_own_file(victim)
    assert read_own_json(victim) == {}


def test_an_owner_that_the_file_system_gives_to_all_is_ours(victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_files.os, "geteuid", lambda: os.getuid() + 1)
    assert read_own(victim) == b"precious"
    require_own(victim, victim.lstat())
    assert sorted(path.name for path in victim.parent.iterdir()) == ["precious"]


def test_a_text_takes_the_place_of_a_link(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "link").symlink_to(victim)
    write_own(tmp_path / "link", "new")
    assert (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()
    discard_link(tmp_path / "link")  # a file stays
    assert victim.read_text() == "precious"
    assert is_own_file(tmp_path / "link")


def test_folders_of_the_cache_are_no_links(tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "link-to-cache"))
    cache.mkdir()
    (tmp_path / "link-to-cache").symlink_to(cache)  # which is the user's own choice
    assert is_folder(own_folder(tmp_path / "link-to-cache" / "runs" / "one"))
    (cache / "failures").symlink_to(victim.parent)
    (cache / "replies").symlink_to(victim.parent)
    with pytest.raises(OSError, match="failures is a link, which is not followed"):
        write_log(ValueError())
    with pytest.raises(InputError, match="replies is a link, which is not followed"):
        RecordLog(tmp_path / "link-to-cache" / "replies" / "a.jsonl").add("key", {})
    assert Unfinished(tmp_path / "link-to-cache" / "replies" / "one").notes
    assert [path.name for path in victim.parent.iterdir()] == ["precious"]


@pytest.mark.usefixtures("stranger")
def test_a_folder_of_the_cache_that_is_another_users_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="runs belongs to another user"):
        own_folder(tmp_path / "runs")


def test_records_and_activations_behind_links_are_not_read(tmp_path: Path, victim: Path) -> None:
    records = RecordLog(victim.with_name("records.jsonl"))
    records.add("key", {"value": 1})
    (tmp_path / "records.jsonl").symlink_to(records.path)
    with pytest.raises(InputError, match=r"records.jsonl is a link"):
        RecordLog(tmp_path / "records.jsonl")
    (tmp_path / "x.safetensors").symlink_to(victim)
    assert read_cached(tmp_path / "x.safetensors") is None
    assert victim.read_text() == "precious"
    assert (tmp_path / "x.safetensors").is_symlink()


def test_what_is_written_whole_replaces_a_link(tmp_path: Path, victim: Path) -> None:
    target = tmp_path / "report.html"
    target.symlink_to(victim)
    # A name with the number of the process could be guessed.
    (tmp_path / f".report.html.{os.getpid()}.partial").symlink_to(victim)
    write_text_whole(target, "page")
    assert target.read_text() == "page"
    assert not target.is_symlink()
    assert victim.read_text() == "precious"
    names = set()
    for _ in range(2):
        with written_whole(target) as partial:
            names.add(partial.name)
            partial.write_text("page")
    assert len(names) == 2


@pytest.mark.parametrize("there", [True, False])
def test_the_lock_is_not_made_behind_a_link(tmp_path: Path, victim: Path, there: bool) -> None:
    target = victim if there else victim.with_name("made")
    (tmp_path / ".res.abliterate-lock").symlink_to(target)
    with Staging.open(tmp_path / "res", "A") as staging:
        staging.write_text("config.json", "{}")
        staging.publish()
    assert [path.name for path in victim.parent.iterdir()] == ["precious"]
    assert victim.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "res"]


def test_no_journal_is_read_or_written_through_a_link(tmp_path: Path, victim: Path) -> None:
    partial = tmp_path / "res.partial"
    partial.mkdir()
    (partial / JOURNAL).write_text("{}")
    (partial / JOURNAL_DRAFT).symlink_to(victim)
    with Staging.open(tmp_path / "res", "A"):
        pass
    assert victim.read_text() == "precious"
    victim.write_text('{"identity": "A", "files": {"precious": 8}, "replaces": true}')
    content = victim.read_bytes()
    (partial / JOURNAL).unlink()
    (partial / JOURNAL).symlink_to(victim)
    (tmp_path / f".res{JOURNAL}").symlink_to(victim)
    (tmp_path / "res.replaced").mkdir()
    (tmp_path / "res.replaced" / "own").write_text("own")
    with Staging.open(tmp_path / "res", "A") as staging:
        assert not staging.finished("precious")
        staging.write_text("config.json", "{}")
        staging.publish()
    assert victim.read_bytes() == content
    assert (tmp_path / "res.replaced" / "own").read_text() == "own"


def test_a_finished_file_is_no_link(tmp_path: Path, victim: Path) -> None:
    """Else what it leads to would be published, with the size that the journal tells."""
    with Staging.open(tmp_path / "res", "A") as staging:
        for name in ("notes.txt", "docs/notes.txt"):
            staging.write_text(name, "precious")
    (staging.folder / "notes.txt").unlink()
    (staging.folder / "notes.txt").symlink_to(victim)
    (staging.folder / "docs" / "notes.txt").unlink()
    (staging.folder / "docs").rmdir()
    (staging.folder / "docs").symlink_to(victim.parent)
    (victim.parent / "notes.txt").write_text("precious")
    with Staging.open(tmp_path / "res", "A") as staging:
        assert not staging.finished("notes.txt")
        assert not staging.finished("docs/notes.txt")
        (staging.folder / "notes.txt").symlink_to(victim)  # planted meanwhile
        staging.copy_file(victim, "notes.txt")
        staging.publish()
    assert not [path for path in (tmp_path / "res").rglob("*") if path.is_symlink()]
    assert sorted(path.name for path in victim.parent.iterdir()) == ["notes.txt", "precious"]


@pytest.mark.usefixtures("stranger")
def test_a_lock_that_is_another_users_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / ".res.abliterate-lock").touch()
    with pytest.raises(InputError, match=r"res.abliterate-lock belongs to another user"):
        check_free(tmp_path / "res")
    assert [path.name for path in tmp_path.iterdir()] == [".res.abliterate-lock"]


@pytest.mark.parametrize("name", ["res.partial", f".res{JOURNAL}"])
def test_what_another_user_left_is_neither_taken_nor_removed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Staging.open(tmp_path / "res", "A") as staging:
        staging.write_text("config.json", "{}")
    (tmp_path / f".res{JOURNAL}").write_text('{"replaces": true}')
    (tmp_path / "res.replaced").mkdir()
    if name == "res.partial":
        (tmp_path / f".res{JOURNAL}").unlink()

    def another(path: Path, found: os.stat_result) -> None:
        if path.name == name:
            raise PermissionError(1, f"{path} belongs to another user")

    monkeypatch.setattr(staging_module, "require_own", another)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"{name} belongs to another user"):
        Staging.open(tmp_path / "res", "A")
    assert sorted(tmp_path.rglob("*")) == before
