"""What names kept results: the code that computed them, among all else."""

from __future__ import annotations

from pathlib import Path

import pytest

import abliterate
from abliterate.errors import InputError
from abliterate.storage.record_log import RecordLog, Unfinished, code_digest


def test_the_digest_of_the_code_is_that_of_every_module_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that an older version computed anywhere must not be taken for those of this one."""
    read = set[Path]()
    original = Path.read_bytes

    def remember(path: Path) -> bytes:
        read.add(path)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", remember)
    usual = code_digest()
    assert {path.resolve() for path in read} == set(Path(abliterate.__file__).resolve().parent.rglob("*.py"))
    monkeypatch.setattr(Path, "read_bytes", lambda path: original(path) + b"\n" * (path.name == "plan.py"))
    assert code_digest() != usual


def test_strict_records_still_say_that_they_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    records = RecordLog(tmp_path / "records.jsonl")
    records.path.mkdir()
    with pytest.raises(InputError, match="cannot keep replies in"):
        records.once("a", lambda: 1)
    assert Unfinished(tmp_path / "file" / "below").notes
    assert not Unfinished(tmp_path / "good").notes
