"""`abliterate demo` takes no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from abliterate.cli.app import app
from abliterate.cli.demo import demo


def test_it_is_a_verb_that_says_what_it_does() -> None:
    (command,) = [one for one in app.registered_commands if one.name == "demo"]
    assert command.rich_help_panel == "edit"
    assert "tiny chat model" in str(demo.__doc__)


def test_a_destination_that_is_there_is_left_alone(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    assert "pass --force to replace it" in refused("demo", "--out", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
