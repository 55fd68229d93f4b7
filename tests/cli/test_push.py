"""What `push` refuses before the Hub is asked."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path

from abliterate.cli import push
from abliterate.cli.app import app


def test_a_folder_that_is_not_finished(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "is not a finished checkpoint" in refused("push", tmp_path, "org/name")


def test_it_says_what_the_hub_is_to_be_told(refused: Callable[..., str], tmp_path: Path) -> None:
    """Read from the function that typer calls: which flags there are, and that none is on by itself."""
    (verb,) = (one for one in app.registered_commands if one.name == push.push.__name__)
    assert verb.callback is not None
    flags = {
        name: one.default
        for name, one in signature(verb.callback).parameters.items()
        if name not in ("folder", "repository")
    }
    assert {name for name, usual in flags.items() if usual} == set()
    assert set(flags) >= {"public", "commit_message", "create_pr", "revision"}
    assert "--commit-message: is empty" in refused("push", tmp_path, "org/name", "--commit-message", "")
