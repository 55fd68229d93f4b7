"""What names kept results: the code that computed them, among all else."""

from __future__ import annotations

from pathlib import Path

import pytest

import abliterate
from abliterate.storage.record_log import code_digest


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
