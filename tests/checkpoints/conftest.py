from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.checkpoints import (
    GOOD,
    A,
    B,
    write_checkpoint,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", GOOD, metadata={"format": "pt"})


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "sharded", {"a": A}, {"b": B})
