"""Foreign work ends, whatever it does, in a process that stays, and leaves this one as it was."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from abliterate.parallel.bounded import BoundedWorker, BoundExceeded

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def identity(asked: Any) -> Any:
    return [os.getpid(), asked]


def test_one_process_answers_again_and_again() -> None:
    worker = BoundedWorker(identity)
    first, second = worker("a" * 10**6, 5), worker({"b": [1, None]}, 5)
    assert first[0] == second[0] != os.getpid()
    assert (first[1], second[1]) == ("a" * 10**6, {"b": [1, None]})


def test_a_value_comes_back_whole() -> None:
    value: list[Any] = ["text", {"a": [1, None]}, "\ud83d", "x" * 3_000_000]
    assert BoundedWorker(lambda asked: value)(None, 5) == value


def test_what_the_work_changes_stays_there() -> None:
    seen: list[int] = []
    assert BoundedWorker(seen.append)(1, 5) is None
    assert seen == []


def test_what_no_signal_interrupts_ends() -> None:
    with pytest.raises(BoundExceeded, match="does not end"):
        BoundedWorker(lambda asked: len(str(9 ** (9**asked))))(9, 1)


def test_memory_is_as_much_as_is_asked_for() -> None:
    with pytest.raises(BoundExceeded, match="more than 64 MiB"):
        BoundedWorker(lambda asked: len("x" * asked), 64 * 2**20)(10**9, 5)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc, to count open files")
def test_processes_and_pipes_are_given_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        BoundedWorker(identity)("", 5)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_it_raises_is_raised_and_it_goes_on() -> None:
    worker = BoundedWorker(lambda asked: 1 // asked)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        worker(0, 5)
    assert worker(1, 5) == 1


def forever(asked: Any) -> Any:
    while asked == "for ever":
        pass
    if asked == "memory":
        return len(bytearray(10**12))
    if asked == "exit":
        os._exit(7)
    if asked == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("for ever", "it does not end: nothing came of 1 s of computing"),
        ("memory", r"it takes more than \d+ MiB of memory"),
        ("exit", r"it ends its process \(exit status 7\)"),
        ("kill", r"it ends its process \(signal 9\)"),
    ],
)
def test_beyond_its_bounds_it_ends_and_another_begins(asked: str, said: str) -> None:
    worker = BoundedWorker(forever)
    before = worker("well", 5)
    with pytest.raises(BoundExceeded, match=said):
        worker(asked, 1)
    assert worker("well", 5) != before


def test_each_piece_of_work_has_seconds_of_its_own() -> None:
    def busy(asked: float) -> float:
        begin = time.process_time()
        while time.process_time() - begin < asked:
            pass
        return asked

    worker = BoundedWorker(busy)
    assert [worker(0.4, 1) for _ in range(6)] == [0.4] * 6


def test_who_sleeps_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abliterate.parallel.bounded.WAITING", 1)
    worker = BoundedWorker(lambda asked: time.sleep(asked))
    with pytest.raises(BoundExceeded, match="it does not end"):
        worker(60, 0)


def test_the_process_goes_with_the_worker() -> None:
    worker = BoundedWorker(identity)
    child = worker("", 5)[0]
    del worker
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_fork_has_a_worker_of_its_own() -> None:
    worker = BoundedWorker(identity)
    own = worker("", 5)[0]
    pid = os.fork()
    if pid == 0:
        os._exit(0 if worker("", 5)[0] not in (own, os.getpid()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert worker("", 5)[0] == own


def test_threads_take_turns() -> None:
    worker, found = BoundedWorker(identity), []
    threads = [threading.Thread(target=lambda one=one: found.append(worker(one, 5)[1])) for one in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(found) == list(range(20))


def test_it_keeps_no_file_open(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        worker = BoundedWorker(identity)
        worker("", 5)
    with path.open("w") as file:  # closed is unlocked, for the fork has closed it too
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert worker("", 5)


def test_it_ends_with_who_began_it() -> None:
    script = (
        "import os, signal; from abliterate.parallel.bounded import BoundedWorker\n"
        "worker = BoundedWorker(lambda asked: os.getpid()); print(worker(0, 5), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )  # which waits for both outputs
    child = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.05)
    assert Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"
