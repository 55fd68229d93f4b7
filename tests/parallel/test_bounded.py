"""Foreign work ends, whatever it does, and leaves this process as it was."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from abliterate.parallel.bounded import BoundExceeded, bounded


def test_a_value_comes_back_whole() -> None:
    value: list[Any] = ["text", {"a": [1, None]}, "\ud83d", "x" * 3_000_000]
    assert bounded(lambda: value, 5) == value


def test_what_the_work_changes_stays_there() -> None:
    seen: list[int] = []
    assert bounded(lambda: seen.append(os.getpid()), 5) is None
    assert seen == []


def test_a_loop_without_end_ends() -> None:
    def forever() -> None:
        while True:
            pass

    begun = time.monotonic()
    with pytest.raises(BoundExceeded, match="does not end"):
        bounded(forever, 1)
    assert time.monotonic() - begun < 30


def test_what_no_signal_interrupts_ends() -> None:
    with pytest.raises(BoundExceeded, match="does not end"):
        bounded(lambda: len(str(9 ** (9**9))), 1)


def test_memory_is_bounded() -> None:
    with pytest.raises(BoundExceeded, match="more than 64 MiB"):
        bounded(lambda: len("x" * 10**9), 5, 64 * 2**20)


def test_an_end_of_the_process_is_no_value() -> None:
    with pytest.raises(BoundExceeded, match="signal 9"):
        bounded(lambda: os.kill(os.getpid(), signal.SIGKILL), 5)


def test_what_the_work_raises_is_told() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        bounded(lambda: 1 // 0, 5)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc, to count open files")
def test_processes_and_pipes_are_given_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        bounded(lambda: 1, 5)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
