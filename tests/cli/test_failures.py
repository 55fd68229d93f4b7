"""A failure is one line without secrets; one that nobody foresaw leaves a log that is safe to send on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import huggingface_hub
import pytest

from abliterate.cli import main
from abliterate.cli.app import app, asks_json, guarded, show
from abliterate.cli.failures import one_line
from abliterate.errors import InputError, ProofError

HUB_TOKEN = "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"
KEY = "our-own-key-0123\r\x01"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("HF_TOKEN", raising=False)


def failing() -> None:
    local = "the value of a variable".replace("value", "content")
    assert local
    raise ValueError(f"Illegal header value b'Bearer {HUB_TOKEN}', {KEY!r}\x1b[2J")


def test_what_nobody_foresaw_is_one_line_and_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(failing) == 70
    out, err = capsys.readouterr()
    (log,) = (tmp_path / "cache" / "failures").iterdir()
    text = log.read_text()
    assert (out, err.count("\n")) == ("", 1)
    assert str(log) in err
    assert "ValueError: Illegal header value b'Bearer ***'" in err
    assert "\x1b" not in err
    assert "in failing" in text
    assert "the content of a variable" not in text
    for secret in (HUB_TOKEN, "our-own-key"):
        assert secret not in err + text
    if sys.platform != "win32":
        assert log.stat().st_mode & 0o777 == 0o600


def test_where_no_log_can_be_written_the_line_says_what_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file")
    assert guarded(failing) == 70
    err = capsys.readouterr().err
    assert "ValueError: Illegal header value" in err
    assert "its log cannot be written" in err
    assert HUB_TOKEN not in err
    assert err.count("\n") == 1


def test_an_error_on_purpose_leaves_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        raise InputError(f"a line\nand another of {HUB_TOKEN}")

    assert guarded(refused) == 2
    assert capsys.readouterr().err == "abliterate: a line and another of ***\n"
    assert not (tmp_path / "cache").exists()


def test_a_word_that_stands_for_no_key_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert one_line("none of hf_hub_download") == "none of hf_hub_download"


@pytest.mark.parametrize("letter", ["A", "é", "語", "\udcff", "\x1b"])
def test_a_line_too_long_loses_its_middle(letter: str, capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        raise InputError(f"column {letter * 1_000_000}: no such column")

    assert guarded(refused) == 2
    err = capsys.readouterr().err
    assert err.startswith("abliterate: column ")
    assert err.endswith(": no such column\n")
    assert " ... " in err
    assert len(err.encode()) <= 2048


def test_the_token_of_a_login_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("a-token-of-another-form\n")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert one_line("refused: 'Bearer a-token-of-another-form'") == "refused: 'Bearer ***'"


def test_typer_shows_no_variables() -> None:
    """Older ones do, of every frame: the command's own `guarded` is asked first, and this holds where it is not."""
    assert not app.pretty_exceptions_show_locals
    assert not app.pretty_exceptions_enable


def test_a_name_that_is_too_long_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: (tmp_path / ("a" * 300)).write_text("")) == 2  # type: ignore[arg-type, return-value]
    said = capsys.readouterr().err
    assert said.startswith("abliterate: ")
    assert ": the name is too long for the file system; give a shorter one\n" in said


def objects(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (InputError(f"a line\nof {HUB_TOKEN}"), 2),
        (ProofError("a leak"), 1),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 70),
    ],
)
def test_an_error_is_an_object_where_json_was_asked_for(
    raised: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        raise raised

    assert guarded(failing, as_json=True) == code
    out, err = capsys.readouterr()
    (one,) = objects(out)
    assert err == f"abliterate: {one['error']}\n"
    assert one["code"] == code
    assert guarded(failing) == code
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "words",
    [["inspect", "/nowhere"], ["evalute"], ["inspect"], ["inspect", "x", "--no-such-flag"], ["features", "no-such-verb"],
     ["push", "x", "y"]],
    ids=" ".join,
)  # fmt: skip
def test_every_refusal_of_the_command_is_one_object(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--json"])
    out, err = capsys.readouterr()
    (one,) = objects(out)
    assert one["code"] == stop.value.code == 2
    assert isinstance(one["error"], str)
    assert one["error"]
    assert err


def test_no_second_object_stands_beside_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> None:
        show("a table", {"out": "there"}, as_json=True)
        raise InputError("the push failed")

    assert guarded(failing, as_json=True) == 2
    out, err = capsys.readouterr()
    assert objects(out) == [{"out": "there"}]
    assert err == "abliterate: the push failed\n"


def test_json_behind_two_dashes_is_a_name() -> None:
    assert asks_json(["inspect", "--json", "x"])
    assert not asks_json(["inspect", "--", "--json"])
    assert not asks_json(["inspect", "x"])
