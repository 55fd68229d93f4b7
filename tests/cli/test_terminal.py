"""Nothing that a model, a folder or a server says reaches the terminal as an order."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from abliterate import cli
from abliterate.chat.text import CONTROL
from abliterate.cli.step_panel import StepPanel
from abliterate.cli.terminal import Terminal, harmless_libraries, say, say_json

PAYLOAD = "\x1b]0;owned\x07\x1b[2J\x9b2J\x1b]8;;https:example.org\x1b\\\u202e\udcff"
STYLES = re.compile(r"\x1b\[[0-9;]*m")
"""What rich itself writes around a styled text."""


def everywhere(text: str) -> RenderableType:
    table = Table(title=Text(text))
    table.add_column(Text(text))
    table.add_row(Text(text, style="bold red"))
    return Group(table, Text(text, style="yellow"), Panel(Text(text)))


@given(st.text(st.sampled_from("a\x1b\x07\x9b\x7f\r\n\t[]0;m\\\u202e\u2066\ud800"), max_size=30))
def test_only_the_styles_of_rich_are_escape_sequences(text: str) -> None:
    file = io.StringIO()
    Terminal(file=file, force_terminal=True, color_system="truecolor", width=60).print(everywhere(text))
    plain, written = io.StringIO(), STYLES.sub("", file.getvalue())
    with redirect_stdout(plain):
        say(text)
    assert not CONTROL.search(written.replace("\n", ""))
    assert not CONTROL.search(plain.getvalue())


def test_an_order_is_seen_instead_of_obeyed() -> None:
    file = io.StringIO()
    Terminal(file=file, width=200).print(everywhere(PAYLOAD))
    assert file.getvalue().count("␛[2J") == 5
    assert "\x1b" not in file.getvalue()


def test_styles_of_foreign_text_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(force_terminal=True, color_system="standard").print(Text("\x1b[31mred", style="bold"))
    assert capsys.readouterr().out == "\x1b[1m␛[31mred\x1b[0m\n"


def test_json_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({PAYLOAD: [PAYLOAD]})
    out = capsys.readouterr().out
    assert json.loads(out) == {PAYLOAD: [PAYLOAD]}
    assert not CONTROL.search(out)


def test_titles_of_progress_bars_are_text() -> None:
    file = io.StringIO()
    bars = StepPanel(Terminal(file=file, force_terminal=True, width=200))
    with bars.step(f"upload to [/b] {PAYLOAD}", 2, "[/x]") as advance:
        advance(2)
    assert "upload to [/b] ␛]0;owned␛[2J" in file.getvalue()
    assert not re.search("\x1b\\]|\x1b\\[2J|\x07|\x9b|\u202e", file.getvalue())


def test_an_error_line_names_a_folder_harmlessly(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(tmp_path / f"nope{PAYLOAD}.gguf")])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert "nope␛]0;owned␇" in err
    assert not CONTROL.search(err.replace("\n", ""))


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            constant = all(isinstance(argument, ast.Constant) for argument in node.args)
            yield node.func.id if not (node.func.id == "print" and constant) else "print of a constant"


def test_no_verb_writes_past_the_filter() -> None:
    """`print` and rich's own console are left to the module that filters; completion answers the shell, not people."""
    folder = Path(cli.__file__).parent
    direct = {path.name for path in folder.glob("*.py") if {"print", "Console"} & set(calls(path))}
    assert direct == {"completion.py", "terminal.py"}


LOUD = [
    "--layer",
    "--nope{0}",
    "--reply-tokens={0}",
    "--batch-size={0}",
    "--dtype={0}",
    "--sites={0}",
    "--mode={0}",
    "--n-train={0}",
]


@pytest.mark.parametrize("word", [*LOUD, "--{0}", "-{0}"])
def test_errors_about_flags_quote_them_harmlessly(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """typer and click write these themselves; a script may pass on names of files that it found."""
    value = word.format(PAYLOAD) if "{" in word else word
    words = ["evaluate" if "reply" in word else "run", "model", value, *([PAYLOAD] if word == "--layer" else [])]
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert err
    assert not CONTROL.search(STYLES.sub("", err).replace("\n", ""))
    assert not CONTROL.search(out)


def test_errors_about_flags_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "model", "--n-train", "x" * 100_000])
    assert len(re.sub(r"[^\x00-\x7f]|\s", "", capsys.readouterr().err)) < 2500


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("way", ["warning", "log", "log of an error", "thread"])
def test_what_libraries_say_is_harmless(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("somebody.else")
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    try:
        if way == "warning":
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn(PAYLOAD, stacklevel=1)
        elif way == "log":
            logger.warning("config holds %s", PAYLOAD)
        elif way == "log of an error":
            try:
                raise ValueError(PAYLOAD)
            except ValueError:
                logger.exception("it failed")
        else:
            thread = threading.Thread(target=lambda: int(PAYLOAD))
            thread.start()
            thread.join()
    finally:
        logger.removeHandler(handler)
    err = capsys.readouterr().err
    assert "␛[2J" in err or "\\x1b[2J" in err
    assert not CONTROL.search(err.replace("\n", ""))


@pytest.fixture
def libraries() -> Iterator[None]:
    before = logging.getLogRecordFactory(), threading.excepthook
    with harmless_libraries():
        yield
    assert (logging.getLogRecordFactory(), threading.excepthook) == before


def test_where_the_package_prints_is_known() -> None:
    """Each place that writes to a terminal, by file: one more is looked at by whoever adds it, and listed here."""
    package = Path(cli.__file__).parents[1]
    sites = {f"{path.relative_to(package)}: {what}" for path in sorted(package.rglob("*.py")) for what in prints(path)}
    assert sites == {
        "__main__.py: sys.stderr.write",  # a constant
        "activations/capture.py: warnings.warn",  # which the command says harmlessly
        "cli/chat.py: input",  # a constant prompt
        "cli/chat.py: print",  # constants
        "cli/completion.py: print",  # the words of flags, to the shell
        "cli/terminal.py: print",  # say and say_json
        "cli/terminal.py: write",  # warnings
        "parallel/bounded.py: os.write",  # a pipe
        "storage/journal.py: os.write",  # a file
    }


def prints(path: Path) -> Iterator[str]:
    """Yield what of a file writes to the terminal by other ways than the filter's."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in (
            "print",
            "input",
            "Console",
            "typer.echo",
            "typer.secho",
            "click.echo",
            "os.write",
            "warnings.warn",
        ) or (
            name.startswith(("sys.stdout.", "sys.stderr.", "rich."))
            and not name.endswith((".isatty", ".fileno", ".flush"))
        ):
            yield name
        elif name == "(file or sys.stderr).write":
            yield "write"
        elif name.endswith((".rule", ".log", ".print_exception")) and "console" in name:
            yield name
