"""The last line of a verb that writes a result: commands that parse, with its real folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from abliterate.cli.app import app
from abliterate.cli.next_steps import next_commands, say_next
from abliterate.cli.terminal import QUIET
from abliterate.storage.names import MANIFEST


def test_the_commands_parse_and_name_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my edit"
    folder.mkdir()
    (folder / MANIFEST).touch()
    group: Any = get_command(app)
    verbs = []
    for command in next_commands(folder):
        first, verb, *words = shlex.split(command)
        assert (first, words[0]) == ("abliterate", str(folder))
        group.commands[verb].make_context(verb, words)
        verbs.append(verb)
    assert verbs == ["chat", "report", "push"]


def test_a_page_needs_a_record_and_what_is_pushed_is_pushed(tmp_path: Path) -> None:
    assert [command.split()[1] for command in next_commands(tmp_path, pushed=True)] == ["chat"]


def test_it_is_said_to_people_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say_next(tmp_path, as_json=True)
    silent = QUIET.set(True)
    say_next(tmp_path, as_json=False)
    QUIET.reset(silent)
    assert capsys.readouterr() == ("", "")
    say_next(tmp_path, as_json=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"next: abliterate chat {tmp_path} · abliterate push {tmp_path} ORG/")
