"""The chat as a command: lines from a pipe, and Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from abliterate.chat.conversation import Conversation
from abliterate.chat.options import ChatOptions
from abliterate.chat.sides import ChatSides, open_sides
from abliterate.cli.chat import HELP, Talk
from abliterate.errors import InputError
from abliterate.pipeline.run import Result
from fixtures.chat import BAD, GOOD, options, said
from fixtures.tiny_chat import TINY


@pytest.fixture(scope="session")
def edited(edited: Result) -> Path:
    return edited.out


@pytest.fixture(scope="session")
def sides(edited: Path) -> ChatSides:
    return open_sides(options(edited), str(TINY))


def chat(*words: str, lines: str | bytes, code: int = 0) -> tuple[str, str]:
    """Run the command in a process of its own; return stdout and stderr."""
    given = lines.encode() if isinstance(lines, str) else lines
    done = subprocess.run(
        [sys.executable, "-m", "abliterate", "chat", *words, "--device", "cpu", "--dtype", "float32"],
        input=given,
        capture_output=True,
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def test_lines_from_a_pipe_are_answered_as_json(edited: Path, sides: ChatSides, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    lines = (
        f"{BAD}\n\n{GOOD}\r\n/help\n/reset\n/system Be short.\n/system\n {GOOD}\n/temperature 0\n/retry\n/save {kept}"
    )
    out, err = chat(str(edited), "--against", str(TINY), "--json", lines=lines)
    turns = [json.loads(line) for line in out.splitlines()]
    assert [turn["prompt"] for turn in turns] == [BAD, GOOD, GOOD, GOOD]
    *turns, again = turns
    assert again == turns[-1]
    saved = json.loads(kept.read_text())["sides"]
    assert [one["role"] for one in saved] == ["original", "edited"]
    for one in saved:
        assert [message["content"] for message in one["messages"]] == [GOOD, again["replies"][one["role"]]]
        assert f"{one['role']}: {one['name']}" in err
    assert turns[0]["refused"] == {"original": True, "edited": False}
    assert turns[0]["ended"] == {"original": "end", "edited": "end"}
    for side in sides.sides:
        assert [turn["replies"][side.role] for turn in turns] == [*said(side, BAD, GOOD), *said(side, GOOD)]
    assert "one model in memory, the edit as hooks" in err
    assert "Ctrl-C during a reply" in err


@pytest.mark.slow
def test_lines_from_a_pipe_are_answered_for_people(edited: Path) -> None:
    out, _ = chat(str(edited), lines=f"{GOOD}\n/exit\n{BAD}".encode() + b"\xff")
    assert out.startswith(f"> {GOOD}\n")
    assert " tokens\n" in out
    assert BAD not in out


@pytest.mark.slow
def test_a_pipe_ends_at_the_first_error(edited: Path) -> None:
    out, err = chat(str(edited), "--json", lines=f"/what\n{GOOD}\n", code=2)
    assert out == ""
    assert err.splitlines()[-1].startswith("abliterate: /what: no such command; /help lists them")
    out, err = chat(str(edited), "--json", lines="shed " * 400, code=2)
    assert "/reset begins a new one" in err


@pytest.mark.slow
def test_ctrl_c_stops_a_reply_and_at_the_prompt_leaves(edited: Path) -> None:
    """In a terminal of its own: draws at a high temperature never come to an end by themselves."""
    words = ["chat", str(edited), "--against", str(TINY), "--temperature", "50", "--device", "cpu"]
    script = (
        f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from abliterate.cli import main; main({words!r})"
    )
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x28\x00\x78\x00\x00\x00\x00\x00")  # 40 rows of 120 columns
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""

    def until(expected: bytes) -> None:
        nonlocal seen
        while expected not in seen:
            assert select.select([ours], [], [], 120)[0], seen
            seen += os.read(ours, 65536)
        seen = seen.partition(expected)[2]

    until(b"> ")
    os.write(ours, f"{GOOD}\n".encode())
    until(b"original")
    os.write(ours, b"\x03")
    until(b"stopped")
    until(b"> ")
    os.write(ours, b"/nothing\n")
    until(b"no such command")
    until(b"> ")
    os.write(ours, b"\x03")
    with contextlib.suppress(OSError):  # what Linux says at the end of a terminal
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 20)[0]:
                os.write(ours, b"\x03")  # the first came before readline listened
            elif not os.read(ours, 65536):
                break
    assert process.wait(120) == 0
    os.close(ours)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/retry", "/retry: nothing was said yet in this conversation"),
        ("/temperature warm", "/temperature warm: give a number from 0 on, such as 0.7"),
        ("/temperature -1", "/temperature -1: give a number from 0 on"),
        ("/temperature inf", "/temperature inf: give a number from 0 on"),
        ("/save", "/save: give the name of a file"),
        (f"/save {TINY}", "is there already; give another name"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(line: str, message: str, sides: ChatSides) -> None:
    talk = Talk(sides, [Conversation(side, ChatOptions()) for side in sides.sides], as_json=True)
    word, _, rest = line.partition(" ")
    does = {"/retry": lambda _: talk.retry(), "/temperature": talk.draw_at, "/save": talk.save}
    with pytest.raises(InputError, match=re.escape(message)):
        does[word](rest)


def test_the_help_of_a_conversation_names_its_commands() -> None:
    for command in ("/reset", "/retry", "/temperature", "/system", "/save", "/help", "/exit"):
        assert command in HELP
