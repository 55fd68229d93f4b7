"""The command as the tests of its verbs call it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from abliterate.cli import main

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Call the command with words that it must refuse; return its one line."""

    def call(*words: object) -> str:
        with pytest.raises(SystemExit) as stop:
            main([*map(str, words)])
        out, err = capsys.readouterr()
        assert stop.value.code == 2
        assert out == ""
        (line,) = [line for line in err.splitlines() if line.startswith("abliterate: ")]
        return line

    return call
