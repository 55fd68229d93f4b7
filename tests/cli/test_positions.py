"""`abliterate positions` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate import cli
from abliterate.cli.positions import positions
from fixtures.tiny_chat import TINY

PHRASES = ("--phrases", "builtin:phrases-tiny")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layer", "last"], "--layer last: give auto, all or a whole number"),
        (["--alphas=1,2"], "--alphas 1,2: give numbers by commas, 0 and both signs"),
        (["--only", "none-such"], "--form none-such: unknown; there are question, request"),
        (["--phrases", "builtin:none"], "builtin:none: unknown; the package ships builtin:phrases"),
        (["--language", "xx"], "the package has none in the language 'xx'"),
        (["--forms", "no-such-file.toml"], "no-such-file.toml: cannot be read"),
        (["--look-alikes", "no-such-file.txt"], "no-such-file.txt"),
        (["--out", "no/such/place"], "there is no folder"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, refused: Callable[..., str]) -> None:
    assert positions.__doc__
    assert said in refused("positions", TINY, *(PHRASES if "--phrases" not in words else ()), *words)


def test_a_form_without_a_phrase_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    forms = tmp_path / "forms.toml"
    forms.write_text('[[form]]\nname = "one"\nwhere = "user"\nsentence = "complete"\nuser = "How?"\n')
    assert "form one: user has no {p}" in refused("positions", TINY, "--forms", forms)


@pytest.mark.slow
def test_a_quick_study_as_tables_and_as_json(capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path) -> None:
    words = ["positions", str(TINY), *PHRASES, "--quick", "--samples", "0", "--reply-tokens", "12", "--device", "cpu"]
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for part in ("from 1", "question/1-harm", "not enough", "quick: no verdicts", "positions.json"):
        assert part in said
    with pytest.raises(SystemExit):
        cli.main([*words, "--json"])
    held = json.loads(capsys.readouterr().out)
    assert held["path"] is None
    assert held["study"] == "positions"
