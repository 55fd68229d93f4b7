"""What `push` refuses before the Hub is asked."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path

from abliterate.cli.push import push


def test_a_folder_that_is_not_finished(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "is not a finished checkpoint" in refused("push", tmp_path, "org/name")


def test_it_is_private_unless_asked() -> None:
    assert signature(push).parameters["public"].default is False
