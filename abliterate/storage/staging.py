"""A destination folder that is absent or complete, whenever the process is killed.

Everything is written to `DEST.partial/`, which becomes `DEST` by one rename. Beside it, while needed:

    .DEST.abliterate-lock           held while one run writes; two runs never share a destination
    DEST.partial/.abliterate-journal.json   what is written here (identity) and which files are finished
    .DEST.abliterate-journal.json   the journal while `publish` runs: the proof that what lies around is ours
    DEST.replaced/                  the old DEST, from when --force has put the new one in its place until it is removed

`publish` moves the journal out first, so that what is renamed holds nothing of ours, and removes it last. With --force
the two folders swap their names in one step, so that DEST is never absent; where the system or the file system has no
such step (see `exchange`), two renames leave a moment without it, and a run killed then is undone by the next.
The lock lies outside of the folder for the same reason, and because a folder cannot be locked on every
network file system. Nothing is ever deleted that neither journal proves to be ours, and none of these names is followed
where it is a link, or taken where it belongs to another user: anybody can guess them.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from filelock import lock_descriptor

from abliterate.errors import InputError, first_line
from abliterate.storage.exchange import exchange, exchanged, numbers_of
from abliterate.storage.journal import JOURNAL, JOURNAL_DRAFT, append_journal, begin_journal, read_journal
from abliterate.storage.names import ADAPTER, CONFIG, MANIFEST
from abliterate.storage.own_files import discard_link, is_folder, open_own, require_own, write_own
from abliterate.storage.temporary import full_disk

REPLACEABLE = {CONFIG, ADAPTER, MANIFEST}
"""--force deletes only a folder that has one of these, or nothing: a slip of `--out` must not cost someone's home."""


class Staging:
    """The folder in which a destination is prepared; a context that keeps it unless `publish` was called.

        with Staging.open(destination, identity) as staging:
            if not staging.finished("model.safetensors"):
                ...write staging.path("model.safetensors")...
                staging.finish("model.safetensors")
            staging.publish()

    Threads may share one: `finished` and `finish` are safe to call at the same time.
    """

    def __init__(self, destination: Path, identity: str, force: bool) -> None:
        """Only remembers; `Staging.open` is the way in."""
        self.destination = destination
        self.folder = destination.with_name(destination.name + ".partial")
        self._replaced = destination.with_name(destination.name + ".replaced")
        self._journal_outside = destination.with_name(f".{destination.name}{JOURNAL}")
        self._lock_path = destination.with_name(f".{destination.name}.abliterate-lock")
        self._lock: int | None = None
        self._identity = identity
        self._force = force
        self._finished: dict[str, int] = {}
        self._threads = threading.Lock()

    @classmethod
    def open(cls, destination: Path, identity: str, force: bool = False, needed_bytes: int = 0) -> Staging:
        """Lock the destination, repair what a killed run left, check, and make or take over the partial folder.

        `identity` is a text that is the same only for the same result (a hash of plan and source): a partial
        folder of another identity is started anew. Raises InputError.
        """
        staging = cls(_plain(Path(destination)), identity, force)
        with _failing(f"{staging.destination} cannot be written"):
            if not staging.destination.parent.exists():
                _check_space(staging.destination, needed_bytes)  # before anything is made
                staging.destination.parent.mkdir(parents=True)
            staging._acquire()
            try:
                journal = staging._survey()
                _check_space(staging.destination, needed_bytes - _held(staging.folder, journal))
                staging._begin(journal)
            except BaseException:
                staging._release()
                raise
        return staging

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
        if error is not None and full_disk(error):
            raise InputError(
                f"{self.destination} cannot be written ({first_line(error)}); nothing was changed; free some space or choose "
                "another --out"
            ) from error

    def path(self, name: str) -> Path:
        """Return where the file `name` (with `/` for sub-folders, which are made) is to be written."""
        if not _is_name(name):
            raise InputError(f"{name!r} is not the name of a file in {self.folder}; choose another")
        path = self.folder / name
        with _failing(f"{path} cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finished(self, name: str) -> bool:
        """Tell whether this file was finished, by this run or one before it, and still has its size."""
        path = self.folder / name
        with self._threads:
            return name in self._finished and self._holds(name) and self._finished[name] == path.stat().st_size

    def _holds(self, name: str) -> bool:
        """Tell whether a file lies in the folder itself: not a link, nor behind one."""
        path = self.folder / name
        return path.is_file() and not any(one.is_symlink() for one in (path, *_parents(path, self.folder)))

    def finish(self, name: str) -> None:
        """Record a file as complete, once it is on the disk (synced here, which costs nothing if it already is)."""
        path = self.path(name)
        with _failing(f"{path} cannot be finished"):
            _sync(path)
            for parent in _parents(path, self.folder):
                _sync(parent)
            with self._threads:
                self._finished[name] = path.stat().st_size
                append_journal(self.folder, {"files": {name: self._finished[name]}})

    def write_text(self, name: str, text: str) -> None:
        """Write a small file and finish it."""
        path = self.path(name)
        with _failing(f"{path} cannot be written"):
            write_own(path, text)
        self.finish(name)

    def copy_file(self, source: Path, name: str) -> None:
        """Copy a file (what a link leads to, not the link) and finish it."""
        path = self.path(name)
        with _failing(f"{source} cannot be copied to {path}"):
            discard_link(path)
            shutil.copyfile(source, path)
        self.finish(name)

    def publish(self) -> None:
        """Make the folder the destination. Files that nobody finished are synced first: all of it is on the disk."""
        with _failing(f"{self.destination} cannot be put in place"):
            self._check_destination()  # someone else may have made it in the meantime
            for name in self._finished:
                if not self.finished(name):
                    raise InputError(f"{self.folder / name} was changed or removed by someone else; run again")
            _sync_tree(self.folder, self._finished)
            replaces = self._force and self.destination.exists()
            numbers = numbers_of(self.folder, self.destination) if replaces else {}
            append_journal(self.folder, {"replaces": replaces, **numbers})
            self._move(self.folder / JOURNAL, self._journal_outside)
            try:
                if replaces and exchange(self.folder, self.destination):
                    _sync(self.destination.parent)
                else:
                    if replaces:
                        self._move(self.destination, self._replaced)
                    self._move(self.folder, self.destination)
            except OSError:
                self._repair()
                raise
        with _failing(f"{self.destination} is complete, but what it replaced, {self._replaced}, cannot be removed"):
            self._repair()
        self._release()

    def _move(self, path: Path, target: Path) -> None:
        path.rename(target)
        for folder in {path.parent, target.parent}:
            _sync(folder)

    def _acquire(self) -> None:
        discard_link(self._lock_path)  # ours is none
        while self._lock is None:
            descriptor = open_own(self._lock_path, os.O_RDWR | os.O_CREAT)
            try:
                taken = lock_descriptor(descriptor, blocking=False)  # which the system gives back when a process dies
            except OSError:
                taken = True  # a file system or a system without locks: go on without one
            if not taken:
                os.close(descriptor)
                raise InputError(
                    f"{self.destination} is being written by another run; wait for it, or choose another --out"
                )
            # The run before may have removed the file between our opening and our locking it: then it locks nothing.
            if os.path.lexists(self._lock_path) and os.path.samestat(os.fstat(descriptor), os.lstat(self._lock_path)):
                self._lock = descriptor
            else:
                os.close(descriptor)

    def _release(self) -> None:
        if self._lock is not None:
            if os.name == "nt":  # nobody removes an open file there: one that another run holds by now stays
                os.close(self._lock)
                with suppress(PermissionError):
                    self._lock_path.unlink(missing_ok=True)
            else:
                self._lock_path.unlink(missing_ok=True)  # while it is held, so that it is not another run's
                os.close(self._lock)
            self._lock = None

    def _survey(self) -> dict[str, int]:
        """Repair what a killed run left, check that the destination may be made; return what is already finished."""
        self._repair()
        self._check_destination()
        return self._read_journal()

    def _repair(self) -> None:
        """Bring a publication that stopped midway to its nearest end: forward once renamed, back before that."""
        discard_link(self._journal_outside)
        if not os.path.lexists(self._journal_outside):
            return
        require_own(self._journal_outside, os.lstat(self._journal_outside))
        journal = read_journal(self._journal_outside)
        if journal.get("replaces") is True and exchanged(journal, self.folder, self.destination):
            self._move(self.folder, self._replaced)  # it is the old one now
        # A DEST.replaced is ours only where the journal says that there was something to replace.
        replaces = journal.get("replaces") is True and is_folder(self._replaced)
        if is_folder(self.folder):
            if replaces and not os.path.lexists(self.destination):
                self._move(self._replaced, self.destination)
            self._move(self._journal_outside, self.folder / JOURNAL)
        else:
            if replaces and is_folder(self.destination):
                shutil.rmtree(self._replaced)
            self._journal_outside.unlink()
            _sync(self._journal_outside.parent)

    def _check_destination(self) -> None:
        path = self.destination
        if not os.path.lexists(path):
            return
        if path.is_symlink() or not path.is_dir():
            raise InputError(f"{path} exists and is not a folder but a file or link; choose another --out")
        if not self._force:
            raise InputError(f"{path} exists; pass --force to replace it, or choose another --out")
        names = {entry.name for entry in path.iterdir()}
        if names and not names & REPLACEABLE and not any(name.endswith(".safetensors") for name in names):
            raise InputError(f"{path} exists and holds no model, so --force does not replace it; choose another --out")
        if os.path.lexists(self._replaced):
            raise InputError(
                f"{self._replaced} is in the way of replacing {path}; move it away or choose another --out"
            )

    def _read_journal(self) -> dict[str, int]:
        """Return the finished files of an earlier run of the same identity: none of them when it was another one.

        Raises InputError for a partial folder that is not ours.
        """
        if not os.path.lexists(self.folder):
            return {}
        names = {entry.name for entry in self.folder.iterdir()} if is_folder(self.folder) else {"no folder"}
        if JOURNAL not in names and names - {JOURNAL_DRAFT}:
            raise InputError(f"{self.folder} exists and has no journal of an earlier run; remove it, then run again")
        require_own(self.folder, os.lstat(self.folder))
        content = read_journal(self.folder / JOURNAL)
        if content.get("identity") != self._identity:
            return {}
        files: dict[str, Any] = content["files"]
        return {name: size for name, size in files.items() if _is_name(name) and type(size) is int}

    def _begin(self, journal: dict[str, int]) -> None:
        """Make the folder hold the finished files, a journal that says so, and nothing else."""
        self.folder.mkdir(exist_ok=True)
        self._finished = dict(journal)
        self._finished = {name: size for name, size in journal.items() if self.finished(name)}
        begin_journal(self.folder, self._identity, self._finished)
        _sync(self.folder)
        _sync(self.folder.parent)
        keep = {self.folder / JOURNAL, *(self.folder / name for name in self._finished)}
        for parent, folders, files in os.walk(self.folder, topdown=False):
            for path in (Path(parent, name) for name in files):
                if path not in keep:
                    path.unlink()
            for path in (Path(parent, name) for name in folders):
                if path.is_symlink():
                    path.unlink()
                elif not any(path.iterdir()):
                    path.rmdir()


def check_destination(source: Path, destination: Path) -> None:
    """Raise InputError when writing `destination` would touch the folder that is read."""
    read, plain = source.resolve(), _plain(destination)
    suffixes = ("", ".partial", ".replaced")
    written = [path.resolve() for path in (plain.with_name(plain.name + suffix) for suffix in suffixes)]
    for path in written:
        if path == read:
            raise InputError(f"{destination}: the destination is the source, {source}; choose another --out")
        if path in read.parents:
            raise InputError(f"{destination}: the destination contains the source, {source}; choose another --out")
        if read in path.parents:
            raise InputError(f"{destination}: the destination lies inside the source, {source}; choose another --out")


def check_free(destination: Path, force: bool = False) -> None:
    """Raise InputError where `Staging.open` would (disk space aside), to be asked before hours of work.

    Repairs what a killed run left behind, as `Staging.open` does, and makes nothing.
    """
    staging = Staging(_plain(Path(destination)), "", force)
    if not staging.destination.parent.exists():
        return
    with _failing(f"{staging.destination} cannot be written"):
        staging._acquire()
        try:
            staging._survey()
        finally:
            staging._release()


def _plain(path: Path) -> Path:
    """Return the absolute path; a link at its end stays a link, so that it can be refused."""
    plain = path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
    if not plain.name:
        raise InputError(f"{path} cannot be a destination; choose another --out")
    return plain


def _is_name(name: str) -> bool:
    parts = PurePosixPath(name).parts
    plain = "/".join(parts) == name and not name.startswith("/") and "\0" not in name
    return plain and bool(parts) and ".." not in parts and parts[0] not in (JOURNAL, JOURNAL_DRAFT)


def _check_space(destination: Path, needed: int) -> None:
    existing = next(parent for parent in destination.parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"{destination} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB free; "
            "free some space or choose another --out"
        )


def _held(folder: Path, finished: dict[str, int]) -> int:
    """Return the bytes that a partial folder has on the disk: a file cut off while it was written may have holes."""
    paths = [Path(parent, name) for parent, _, files in os.walk(folder) for name in files]
    there = {path.relative_to(folder).as_posix(): os.lstat(path) for path in paths}
    blocks = {name: getattr(one, "st_blocks", one.st_size // 512) * 512 for name, one in there.items()}
    return sum(one.st_size if name in finished else min(one.st_size, blocks[name]) for name, one in there.items())


def _parents(path: Path, folder: Path) -> list[Path]:
    """The folders from that of `path` up to `folder`."""
    return [parent for parent in path.parents if parent == folder or folder in parent.parents]


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders, and needs not
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path, finished: dict[str, int]) -> None:
    rights = (folder / JOURNAL).stat().st_mode & 0o666
    for parent, _, files in os.walk(folder):
        for path in (Path(parent, name) for name in files):
            path.chmod(path.stat().st_mode | rights)  # safetensors makes its files for their owner alone
            if path.relative_to(folder).as_posix() not in finished:
                _sync(path)
        _sync(Path(parent))


@contextmanager
def _failing(problem: str) -> Iterator[None]:
    """Turn what the system says into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"disk full: {problem}; nothing was changed; free some or choose another --out") from error
        raise InputError(f"{problem} ({error.strerror or error}); check the path and its permissions") from error
