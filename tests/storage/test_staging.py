from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from abliterate.checkpoints.checkpoint import Checkpoint, write_shard
from abliterate.errors import InputError
from abliterate.storage import staging as module
from abliterate.storage.exchange import exchange
from abliterate.storage.staging import Staging, check_destination, check_free
from fixtures.checkpoints import snapshot, write_checkpoint
from fixtures.folders import PYTHONPATH

JOURNAL = ".abliterate-journal.json"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "edited"


def around(destination: Path) -> set[str]:
    return {path.name for path in destination.parent.iterdir()}


def old_model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("old")
    return folder


def error_of(destination: Path, force: bool = False) -> str:
    """Return what both the early check and the opening say, when neither changes anything."""
    before = snapshot(destination.parent)
    with pytest.raises(InputError) as caught:
        Staging.open(destination, "identity", force)
    with pytest.raises(InputError, match=re.escape(str(caught.value)) + "$"):
        check_free(destination, force)
    assert snapshot(destination.parent) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_early_check_makes_nothing(destination: Path) -> None:
    check_free(destination / "not" / "there")
    check_free(destination)
    assert around(destination) == set()
    old_model(destination)
    check_free(destination, force=True)
    with Staging.open(destination.with_name("other"), "identity") as staging:
        staging.write_text("kept", "1")
    check_free(destination.with_name("other"))
    assert around(destination) == {"edited", "other.partial"}
    assert (staging.folder / "kept").exists()


def test_a_published_folder_holds_what_was_written_and_nothing_else(destination: Path) -> None:
    with Staging.open(destination, "identity") as staging:
        assert staging.folder == destination.with_name("edited.partial")
        staging.write_text("README.md", "card\n")
        staging.copy_file(Path(__file__), "code/copy.py")
        staging.path("deep/er/late.txt").write_text("nobody finished this")
        assert not destination.exists()
        staging.publish()
    assert snapshot(destination) == {
        "README.md": b"card\n",
        "code/copy.py": Path(__file__).read_bytes(),
        "deep/er/late.txt": b"nobody finished this",
    }
    assert around(destination) == {"edited"}


def test_leaving_without_publish_keeps_what_was_finished(destination: Path) -> None:
    def interrupted() -> None:
        with Staging.open(destination, "identity") as staging:
            staging.write_text("a/one", "1")
            staging.path("b/two").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert around(destination) == {"edited.partial"}
    with Staging.open(destination, "identity") as staging:
        assert staging.finished("a/one")
        assert not staging.finished("b/two")
        assert not staging.finished("never")
        assert set(snapshot(staging.folder)) == {"a/one", JOURNAL}
        assert not (staging.folder / "b").exists()
        (staging.folder / "a/one").write_text("12")
        assert not staging.finished("a/one")
        (staging.folder / "a/one").unlink()
        assert not staging.finished("a/one")


@pytest.mark.parametrize(
    "journal",
    [
        *(None, "", "[]", "\xff", '{"identity": "one"}', '{"identity": "one", "files": 3}'),
        *('{"identity": "one", "files": {"kept": null}}', '{"identity": "one", "files": {"../foreign": 7}}'),
    ],
)
def test_another_identity_or_a_damaged_journal_starts_anew(destination: Path, journal: str | None) -> None:
    (destination.parent / "foreign").write_text("foreign")
    with Staging.open(destination, "one") as staging:
        staging.write_text("kept", "1")
        (staging.folder / "link").symlink_to(destination.parent, target_is_directory=True)
    if journal is not None:
        (staging.folder / JOURNAL).write_text(journal, encoding="latin-1")
    with Staging.open(destination, "two" if journal is None else "one") as staging:
        assert not staging.finished("kept")
        assert set(snapshot(staging.folder)) == {JOURNAL}
        assert os.listdir(staging.folder) == [JOURNAL]  # noqa: PTH208
    assert (destination.parent / "foreign").read_text() == "foreign"


def test_a_partial_folder_that_is_not_ours_is_not_touched(destination: Path) -> None:
    partial = destination.with_name("edited.partial")
    partial.mkdir()
    (partial / "thesis.tex").write_text("foreign")
    message = error_of(destination, force=True)
    assert message == f"{partial} exists and has no journal of an earlier run; remove it, then run again"
    elsewhere = destination.parent / "elsewhere"
    partial.rename(elsewhere)
    (elsewhere / JOURNAL).write_text("{}")
    partial.symlink_to(elsewhere)
    assert "has no journal of an earlier run" in error_of(destination)
    partial.unlink()
    partial.write_text("a file")
    assert "has no journal of an earlier run" in error_of(destination)


def test_an_empty_partial_folder_is_taken(destination: Path) -> None:
    destination.with_name("edited.partial").mkdir()
    with Staging.open(destination, "identity") as staging:
        staging.publish()
    assert around(destination) == {"edited"}


def test_an_existing_destination_needs_force(destination: Path) -> None:
    old_model(destination)
    message = f"{destination} exists; pass --force to replace it, or choose another --out"
    assert error_of(destination) == message
    with Staging.open(destination, "identity", force=True) as staging:
        staging.write_text("config.json", "new")
        assert snapshot(destination) == {"config.json": b"old"}
        staging.publish()
    assert snapshot(destination) == {"config.json": b"new"}
    assert around(destination) == {"edited"}


def test_force_replaces_models_only(destination: Path) -> None:
    destination.mkdir()
    with Staging.open(destination, "identity", force=True):
        pass  # an empty folder may go
    (destination / "thesis.tex").write_text("foreign")
    assert "exists and holds no model, so --force does not replace it; choose another --out" in error_of(
        destination, force=True
    )
    (destination / "x.safetensors").touch()
    destination.with_name("edited.replaced").mkdir()
    assert "edited.replaced is in the way of replacing" in error_of(destination, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_a_file_or_link_is_no_destination(destination: Path, force: bool) -> None:
    destination.write_text("foreign")
    assert "exists and is not a folder but a file or link; choose another --out" in error_of(destination, force=force)
    destination.unlink()
    for target in ("gone", old_model(destination.parent / "model")):
        destination.symlink_to(target)
        assert "is not a folder but a file or link" in error_of(destination, force=force)
        destination.unlink()


def test_a_folder_called_replaced_that_is_not_ours_stays(destination: Path) -> None:
    replaced = old_model(destination.with_name("edited.replaced"))
    with Staging.open(destination, "identity", force=True) as staging:
        staging.publish()
    assert snapshot(replaced) == {"config.json": b"old"}
    # A run killed after its rename, and one killed before it, leave the same journal outside.
    outside = destination.with_name(f".edited{JOURNAL}")
    outside.write_text(json.dumps({"identity": "identity", "files": {}, "replaces": False}))
    assert "exists; pass --force" in error_of_repaired(destination)
    outside.write_text(json.dumps({"identity": "identity", "files": {}, "replaces": False}))
    destination.rename(destination.with_name("edited.partial"))
    with Staging.open(destination, "identity"):
        assert not destination.exists()
    assert snapshot(replaced) == {"config.json": b"old"}
    assert around(destination) == {"edited.partial", "edited.replaced"}


def test_a_replacement_killed_midway_is_undone_or_finished(destination: Path) -> None:
    old, new = old_model(destination.with_name("edited.replaced")), destination.with_name("edited.partial")
    outside = destination.with_name(f".edited{JOURNAL}")
    journal = json.dumps({"identity": "identity", "files": {}, "replaces": True})
    new.mkdir()
    outside.write_text(journal)
    assert "exists; pass --force" in error_of_repaired(destination)
    assert snapshot(destination) == {"config.json": b"old"}
    assert around(destination) == {"edited", "edited.partial"}
    destination.rename(old)
    (new / JOURNAL).unlink()
    new.rename(destination)
    outside.write_text(journal)
    assert "exists; pass --force" in error_of_repaired(destination)
    assert around(destination) == {"edited"}


def error_of_repaired(destination: Path) -> str:
    with pytest.raises(InputError) as caught:
        check_free(destination)
    return str(caught.value)


@pytest.mark.parametrize("force", [False, True])
def test_a_destination_that_appears_meanwhile_is_kept(destination: Path, force: bool) -> None:
    with Staging.open(destination, "identity", force=force) as staging:
        destination.mkdir()
        (destination / "thesis.tex").write_text("foreign")
        with pytest.raises(InputError, match="choose another --out"):
            staging.publish()
    assert snapshot(destination) == {"thesis.tex": b"foreign"}
    assert (staging.folder / JOURNAL).is_file()


def test_a_finished_file_that_changes_is_not_published(destination: Path) -> None:
    with Staging.open(destination, "identity") as staging:
        staging.write_text("a", "1")
        (staging.folder / "a").write_text("12")
        with pytest.raises(InputError, match="a was changed or removed by someone else; run again"):
            staging.publish()
    assert not destination.exists()


def test_a_rename_that_fails_is_undone(destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_model(destination)
    monkeypatch.setattr(module, "exchange", lambda path, other: False)
    rename = Path.rename
    with Staging.open(destination, "identity", force=True) as staging:
        staging.write_text("config.json", "new")

        def fail(path: Path, target: Path) -> Path:
            if path == staging.folder:
                raise OSError(errno.EIO, "Input/output error")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(InputError, match=r"cannot be put in place .Input/output error.; check the path"):
            staging.publish()
        assert snapshot(destination) == {"config.json": b"old"}
        monkeypatch.undo()
        staging.publish()
    assert snapshot(destination) == {"config.json": b"new"}
    assert around(destination) == {"edited"}


def test_space_is_checked_first_and_what_is_there_counts(destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 2_000_000_000))
    deep = destination / "not" / "there"
    message = f"{deep} needs 2.5 GB, 2.0 GB free; free some space or choose another --out"
    with pytest.raises(InputError, match=re.escape(message)):
        Staging.open(deep, "identity", needed_bytes=2_500_000_000)
    assert not destination.exists()
    with Staging.open(destination / "x", "identity", needed_bytes=2_000_000_000) as staging:
        with staging.path("large").open("wb") as file:
            file.truncate(500_000_000)  # sparse
        staging.finish("large")
    with Staging.open(destination / "x", "identity", needed_bytes=2_500_000_000) as staging:
        assert staging.finished("large")
    with pytest.raises(InputError, match=r"needs 2\.5 GB, 2\.0 GB free"):
        Staging.open(destination / "x", "identity", needed_bytes=3_000_000_000)
    assert (staging.folder / "large").exists()


def test_holes_in_what_is_there_do_not_count(destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Staging.open(destination, "identity") as staging, staging.path("model.safetensors").open("wb") as file:
        file.truncate(1 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 1 << 20))
    with pytest.raises(InputError, match=r"needs 1\.. GB, 0\.0 GB free"):
        Staging.open(destination, "identity", needed_bytes=1 << 30)


def test_two_runs_do_not_share_a_destination(destination: Path) -> None:
    with Staging.open(destination, "identity"):
        assert error_of(destination) == (
            f"{destination} is being written by another run; wait for it, or choose another --out"
        )
        assert "is being written by another run" in error_of(destination, force=True)
    with Staging.open(destination, "identity") as staging:
        staging.publish()


def test_a_file_system_without_locks_is_written_too(destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with Staging.open(destination, "identity") as staging:
        staging.publish()
    monkeypatch.undo()

    def missing(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(errno.ENOSYS, "this Python has no locks")

    monkeypatch.setattr(module, "lock_descriptor", missing)
    with Staging.open(destination.with_name("other"), "identity") as staging:
        staging.publish()
    assert around(destination) == {"edited", "other"}


def test_the_lock_of_a_process_that_died_is_free(destination: Path) -> None:
    child = os.fork()
    if child == 0:
        Staging.open(destination, "identity")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert destination.with_name(".edited.abliterate-lock").exists()
    with Staging.open(destination, "identity") as staging:
        staging.publish()
    assert around(destination) == {"edited"}


def test_it_is_the_lock_that_filelock_takes(destination: Path) -> None:
    """The same on every platform that filelock knows, and seen by whoever uses it."""
    path = destination.with_name(".edited.abliterate-lock")
    with Staging.open(destination, "identity"), pytest.raises(Timeout):
        FileLock(path).acquire(blocking=False)


def test_the_lock_holds_while_threads_come_and_go(destination: Path) -> None:
    holding, most, entered = [0], [0], [0]

    def run() -> None:
        for _ in range(25):
            try:
                with Staging.open(destination, "identity"):
                    holding[0] += 1
                    entered[0] += 1
                    most[0] = max(most[0], holding[0])
                    holding[0] -= 1
            except InputError:
                continue

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert entered[0] > 0


def test_a_lock_file_that_is_removed_while_it_is_taken_locks_nothing(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, lock = fcntl.flock, destination.with_name(".edited.abliterate-lock")
    removals = [lock.unlink]  # what a run does that ends between our opening and our locking

    def late(descriptor: int, operation: int) -> None:
        if removals:
            removals.pop()()
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", late)
    with Staging.open(destination, "identity"):
        assert lock.exists()
        assert "is being written by another run" in error_of(destination)


def test_threads_finish_files_together(destination: Path) -> None:
    with Staging.open(destination, "identity") as staging:
        threads = [threading.Thread(target=staging.write_text, args=(f"{n}", "x")) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Staging.open(destination, "identity") as staging:
        assert all(staging.finished(f"{n}") for n in range(16))


@pytest.mark.parametrize("name", ["", ".", "/etc/x", "../x", "a/../x", "a//x", "./x", "x\0", JOURNAL])
def test_names_that_are_refused(destination: Path, name: str) -> None:
    with Staging.open(destination, "identity") as staging:
        with pytest.raises(InputError, match="is not the name of a file in"):
            staging.path(name)
        assert not staging.finished(name)


def test_what_the_system_says_is_one_line(destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination.write_text("a file")
    assert "cannot be written (" in error_of(destination / "below")
    with pytest.raises(InputError, match="/ cannot be a destination; choose another --out"):
        Staging.open(Path("/"), "identity")
    with Staging.open(destination.with_name("other"), "identity") as staging:
        with pytest.raises(InputError, match=r"gone cannot be copied to .*No such file or directory"):
            staging.copy_file(destination.with_name("gone"), "x")

        def full(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"disk full: .*x cannot be finished; nothing was changed; free some"):
            staging.write_text("x", "1")


def test_relative_destinations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Staging.open(Path("edited"), "identity") as staging:
        monkeypatch.chdir("/")
        staging.publish()
    assert (tmp_path / "edited").is_dir()
    monkeypatch.chdir(tmp_path / "edited")
    with pytest.raises(InputError, match="edited exists; pass --force"):
        Staging.open(Path(), "identity")


@pytest.mark.parametrize(
    ("source", "out", "expected"),
    [
        ("model", "model", "the destination is the source, "),
        ("model", "model/../model", "the destination is the source"),
        ("model", "link", "the destination is the source"),
        ("link", "model", "the destination is the source"),
        ("model", "model/edited", "the destination lies inside the source"),
        ("model", "link/edited", "the destination lies inside the source"),
        ("model/sub", "model", "the destination contains the source"),
        ("edited.partial", "edited", "the destination is the source"),
        ("edited.replaced/a", "edited", "the destination contains the source"),
    ],
)
def test_a_destination_stays_off_the_source(tmp_path: Path, source: str, out: str, expected: str) -> None:
    (tmp_path / "model/sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "model")
    with pytest.raises(InputError, match=expected) as caught:
        check_destination(tmp_path / source, tmp_path / out)
    assert str(caught.value).endswith(f"the source, {tmp_path / source}; choose another --out") or "lies" in expected
    check_destination(tmp_path / source, tmp_path / "model-edited")


# --- killed between any two operations -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, to start a run as often as it is killed")
def test_killed_anywhere_the_destination_is_absent_or_complete(tmp_path: Path) -> None:
    """This file, run as a script, forks a run for every operation on files and kills it there: see `main` below."""
    memory = Path("/dev/shm")  # thousands of fsyncs: seconds there, minutes on a disk
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as root:
        environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
        command = [sys.executable, __file__, root]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    killed = json.loads(done.stdout)
    assert killed["new"] > 60
    assert killed["force"] > 60
    assert killed["two renames"] > 20
    assert killed["chains"] > 40


def build(source: Path, destination: Path, force: bool) -> None:
    """Make an edited copy as the edit does."""
    checkpoint = Checkpoint.open(source)
    with Staging.open(destination, "identity", force, checkpoint.total_bytes) as staging:
        for shard in checkpoint.shards:
            if not staging.finished(shard.name):
                edit = dict.fromkeys(("a", "c"), torch.neg)
                write_shard(checkpoint, shard, staging.path(shard.name), edit, lambda count: None)
                staging.finish(shard.name)
        for path in checkpoint.files():
            staging.copy_file(source / path, path.as_posix())
        staging.write_text("abliterate.json", "{}")
        staging.publish()


def kill_before(operation: int, run: Callable[[], None]) -> bool:
    """Run in a fork that dies before the numbered operation on files; tell whether it came so far."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, f"the run failed by itself before operation {operation}"
        return os.WIFSIGNALED(status)
    passed = 0

    def count() -> None:
        nonlocal passed
        if passed == operation:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "fcntl.flock"):
            count()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count()
            return function(*arguments, **options)

        return call

    sys.addaudithook(audit)
    os.fsync = counted(os.fsync)
    os.write = counted(os.write)
    if hasattr(os, "copy_file_range"):
        os.copy_file_range = counted(os.copy_file_range)
    try:
        run()
    except InputError as error:
        os._exit(0 if "exists; pass --force" in str(error) else 1)
    except BaseException as error:  # noqa: BLE001 - a fork must not return into pytest
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)
    os._exit(0)


def main(root: Path) -> dict[str, int]:
    """Kill a first run, and one that replaces a model, before each operation; and others several times in a row."""
    torch.set_num_threads(1)
    source = root / "source"
    write_checkpoint(source, {"a": torch.ones(3, 4), "b": torch.zeros(2)}, {"c": torch.ones(5, dtype=torch.bfloat16)})
    build(source, root / "expected", force=False)
    killed = {"new": 0, "force": 0, "two renames": 0, "chains": 0}
    step = module.exchange
    for mode in ("new", "force", "two renames"):
        module.exchange = step if mode == "force" else lambda path, other: False
        begin = killed["force"] - 25 if mode == "two renames" else 0  # before that both do the same
        while kill_and_repair(root, [begin + killed[mode]], force=mode != "new"):
            killed[mode] += 1
    generator = random.Random(7)
    for _ in range(17):
        module.exchange = step if generator.random() < 0.5 else lambda path, other: False
        points = [generator.randrange(killed["force"]) for _ in range(3)]
        killed["chains"] += kill_and_repair(root, points, force=True)
    return killed


def kill_and_repair(root: Path, points: list[int], force: bool) -> int:
    """Kill a run before each of these operations, one after the other, then run to the end; return how often it died."""
    source, destination = root / "source", root / "room" / "edited"
    before, expected = snapshot(source), snapshot(root / "expected")
    shutil.rmtree(destination.parent, ignore_errors=True)
    destination.parent.mkdir()
    if force:
        old_model(destination)
    deaths = 0
    for point in points:
        deaths += kill_before(point, lambda: build(source, destination, force))
        assert snapshot(source) == before, f"source changed, killed at {points}"
        allowed = [expected, {"config.json": b"old"}] if force else [expected]
        assert not destination.exists() or snapshot(destination) in allowed, f"torn, killed at {points}"
        assert destination.exists() or not force or module.exchange is not exchange, f"absent, killed at {points}"
    if force or not destination.exists():
        build(source, destination, force)
    else:
        with pytest.raises(InputError, match="exists; pass --force"):  # it was killed when all was done
            build(source, destination, force)
    assert snapshot(destination) == expected, f"a rerun differs, killed at {points}"
    assert around(destination) == {"edited"}, f"{around(destination)} left, killed at {points}"
    assert snapshot(source) == before
    return deaths


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_get_the_rights_that_any_new_file_has(tmp_path: Path, mask: int) -> None:
    """safetensors makes its files for their owner alone, whatever the user's umask says."""
    before = os.umask(mask)
    try:
        with Staging.open(tmp_path / "out", "identity") as staging:
            save_file({"a": torch.zeros(2)}, staging.folder / "model.safetensors")
            (staging.folder / "model.safetensors").chmod(0o600)
            staging.write_text("config.json", "{}")
            staging.publish()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o666 & ~mask}
