"""A file that was loaded and is another now is found, however it was changed; what is not loaded does not count."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate.checkpoints import snapshot as module
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.snapshot import LOADED, Snapshot, small_files
from abliterate.errors import InputError
from fixtures.tiny_chat import TINY

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def replaced(path: Path) -> None:
    """As another program saves: a new file takes the name, with the old times."""
    before, other = path.stat(), path.with_name("other")
    other.write_bytes(path.read_bytes()[:-1] + b"\x07")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def rewritten(path: Path) -> None:
    """In place, of the same size, with the times set back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x07")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], None]] = {
    "replaced": replaced,
    "rewritten": rewritten,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "gone": Path.unlink,
    "a folder now": lambda path: (path.unlink(), path.mkdir())[0],
}


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"])  # fmt: skip
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_named(name: str, change: str, folder: Path) -> None:
    snapshot = Checkpoint.open(folder).snapshot
    snapshot.require_unchanged()
    CHANGES[change](folder / name)
    with pytest.raises(
        InputError, match=rf"{name}: changed since it was opened, .*; nothing was published: run again$"
    ):
        snapshot.require_unchanged()


@pytest.mark.parametrize("name", ["added_tokens.json", "modeling_own.py", "additional_chat_templates/tools.jinja", "vocab.txt"])  # fmt: skip
def test_a_file_that_came_is_named(name: str, folder: Path) -> None:
    snapshot = Snapshot.of(folder, [WEIGHTS])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    with pytest.raises(InputError, match=name):
        snapshot.require_unchanged()


def test_what_loads_the_same_is_the_same(folder: Path) -> None:
    snapshot = Snapshot.of(folder, [WEIGHTS])
    for name in ("README.md", "evaluation.json", "report.html", "notes.txt", ".hidden.json"):
        (folder / name).write_text("{}")
    (folder / "config.json").write_bytes((folder / "config.json").read_bytes())  # saved again, as it was
    (folder / WEIGHTS).read_bytes()
    snapshot.require_unchanged()
    assert snapshot.identity != Snapshot.of(folder, [WEIGHTS]).identity, "of other times nothing is taken over"


def test_a_link_is_followed(folder: Path, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    (folder / WEIGHTS).rename(blob)
    (folder / WEIGHTS).symlink_to(blob)
    snapshot = Checkpoint.open(folder).snapshot
    rewritten(blob)
    with pytest.raises(InputError, match=WEIGHTS):
        snapshot.require_unchanged()


def test_a_large_file_counts_by_its_times(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 10)
    snapshot = Snapshot.of(folder, [WEIGHTS])
    snapshot.require_unchanged()
    rewritten(folder / "tokenizer.json")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        snapshot.require_unchanged()


def test_every_file_that_is_loaded_is_looked_at(folder: Path) -> None:
    assert "*.json" in LOADED
    assert small_files(folder, [WEIGHTS]) == [
        "chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_the_fingerprint_is_that_of_the_opening(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    before = checkpoint.fingerprint()
    for name in ("chat_template.jinja", "tokenizer.json", WEIGHTS):
        rewritten(folder / name)
        assert checkpoint.fingerprint() == before
        now = Checkpoint.open(folder).fingerprint()
        assert now != before
