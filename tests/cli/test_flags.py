"""Flags that verbs share."""

from __future__ import annotations

import pytest

from abliterate import cli
from fixtures.dtypes import KNOWN
from fixtures.tiny_chat import TINY


@pytest.mark.parametrize(
    "words",
    [
        [str(TINY), "--dtype", "int3"],
        [str(TINY), "--edited-dtype", "int3"],
        ["apply", str(TINY), "--directions", "x", "--dtype", "int3"],
        ["apply", str(TINY), "--directions", "x", "--edited-dtype", "int3"],
        ["verify", str(TINY), str(TINY), "--dtype", "int3"],
        ["evaluate", str(TINY), "--dtype", "int3"],
        ["compare", str(TINY), str(TINY), "--dtype", "int3"],
        ["export", str(TINY), "--to", "adapter", "--out", "x", "--dtype", "int3"],
        ["chat", str(TINY), "--dtype", "int3"],
        ["heal", str(TINY), "--dataset", "x", "--out", "x", "--dtype", "int3"],
    ],
    ids=" ".join,
)
def test_every_verb_refuses_an_unknown_word_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"abliterate: {words[-2]} int3: unknown; choose {KNOWN}\n"
