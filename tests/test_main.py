"""The command's door: Ctrl-C is one line even before its own parts are there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from abliterate.__main__ import main


def test_ctrl_c_before_anything_was_begun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("abliterate.cli.main", interrupted)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "abliterate: interrupted; nothing was begun\n"


def test_what_the_command_answers_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answered() -> None:
        asked.append(list(sys.argv))
        raise SystemExit(2)

    monkeypatch.setattr("abliterate.cli.main", answered)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert len(asked) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("imported", ["abliterate.parallel.waiting", "typer.main", "abliterate.cli"])
def test_ctrl_c_while_the_commands_parts_are_imported(imported: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "abliterate", "inspect", "nowhere"]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.split("|")[-1].strip() == imported:
                process.send_signal(signal.SIGINT)
                break
        own = [line for line in process.stderr if not line.startswith("import time:")]
        assert process.wait(60) == 130
    assert len(own) == 1
    assert own[0].startswith("abliterate: interrupted; nothing ")
