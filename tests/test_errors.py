"""Errors that are raised on purpose: one family, and exit codes that tell a failed proof from a wrong question."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from abliterate import errors
from abliterate.cli.app import app
from abliterate.errors import (
    FLAGS_SPOKEN,
    SWITCHES,
    AbliterateError,
    InputError,
    NoRefusalsError,
    ProofError,
    first_line,
    flags_spoken,
    in_python,
)

CLASSES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]


def test_all_are_of_one_family_and_a_failed_proof_alone_has_a_code_of_its_own() -> None:
    assert len(CLASSES) == 7
    assert all(issubclass(one, AbliterateError) for one in CLASSES)
    assert {one.__name__: one.exit_code for one in CLASSES if one.exit_code != 2} == {"ProofError": 1}
    assert issubclass(NoRefusalsError, InputError)
    assert not issubclass(ProofError, InputError)
    assert {one for one in CLASSES if issubclass(one, ValueError)} == {InputError, NoRefusalsError}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("the first\nthe second"), "the first"),
        (ValueError("\n  after a blank line\nmore"), "after a blank line"),
        (KeyError("without quotes"), "without quotes"),
        (KeyError(), "KeyError"),
        (RuntimeError(""), "RuntimeError"),
        (OSError(2, "No such file or directory"), "[Errno 2] No such file or directory"),
        (ValueError(3), "3"),
    ],
    ids=str,
)
def test_the_first_line_of_an_error(error: BaseException, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("--layer 9 is out of range; the model has resid[0]", "layer=9 is out of range; the model has resid[0]"),
        ("--strength -1.5: must be finite", "strength=-1.5: must be finite"),
        ("--n-train 4, or more", "n_train=4, or more"),
        ("--direction medians: unknown", "direction='medians': unknown"),
        ("try --dtype float32, or check it", "try dtype='float32', or check it"),
        ("write a control vector: --to control-vector", "write a control vector: to='control-vector'"),
        ("pass --chat-template FILE to give it one", "pass chat_template=FILE to give it one"),
        ("pass --force to replace it, or another --out", "pass force=True to replace it, or another out=..."),
        ("leave --no-optimize away", "leave optimize=False away"),
        ("--form and --place: leave one away", "form=... and place=...: leave one away"),
        ("retry with: abliterate push out me/out --public", "retry with: abliterate push out me/out --public"),
        ("run `hf auth login --token X`, or pass --token", "run `hf auth login --token X`, or pass token=..."),
        ("/tmp/my--file: no such file", "/tmp/my--file: no such file"),
    ],
)
def test_a_message_names_options_as_python_does_and_leaves_commands(written: str, said: str) -> None:
    assert in_python(written) == said
    assert in_python(said) == said


def test_whoever_listens_hears_options_in_his_words(keywords: None) -> None:
    error = InputError("--layer 9 is out of range")
    assert str(error) == "layer=9 is out of range"
    with flags_spoken(), flags_spoken():
        assert str(error) == "--layer 9 is out of range"
    assert str(error) == "layer=9 is out of range"


def test_flags_are_spoken_until_the_outermost_context_ends() -> None:
    with flags_spoken():
        pass
    assert FLAGS_SPOKEN.is_set()  # the tests' own context is around this one


def test_switches_are_the_flags_of_the_command_that_take_no_value() -> None:
    switches, valued = set(), set()

    def gather(command: Any) -> None:
        for one in command.params:
            flags = {word.removeprefix("--") for word in one.opts if word.startswith("--")}
            (switches if getattr(one, "is_flag", False) else valued).update(flags)
        for below in getattr(command, "commands", {}).values():
            gather(below)

    gather(typer.main.get_command(app))
    own = {"install-completion", "show-completion", "version"}
    assert set(SWITCHES) == switches - valued - own
