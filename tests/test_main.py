"""The command's door: Ctrl-C is one line even before its own parts are there."""

from __future__ import annotations

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
