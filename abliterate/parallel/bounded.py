"""Work of foreign making in a process of its own, with bounds on its time and memory.

What a chat template or a regular expression does is its maker's choice: nested loops that never end, strings of gigabytes,
powers that no signal interrupts. The kernel holds the bounds of a forked process whatever runs in it. To fork takes the
longer the more memory there is: the process stays for more work, and keeps what it has compiled.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import math
import os
import select
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MEMORY = 512 * 2**20
"""Bytes that the work may take beyond what this process has."""

WAITING = 6
"""Seconds of waiting for each second of computing: a machine that others use gives less than a core."""

OUT_OF_MEMORY = 3
"""Exit status of a process that found no more memory."""

SIZE = 8
"""Bytes that say how long a message is."""


class BoundExceeded(Exception):
    """The work took more time or memory than it may, or ended its process; the text says which."""


class BoundedWorker:
    """Does `work` on what it is asked, in a process of its own that is forked when it is first asked, and after it ended.

    Asked and given are values that JSON can hold. A fork of this process gets a worker of its own; threads take turns.
    """

    def __init__(self, work: Callable[[Any], Any], memory: int = MEMORY) -> None:
        self.work, self.memory = work, memory
        self._lock = threading.Lock()
        self._owner = self._child = 0
        self._ends: tuple[int, int] = (-1, -1)
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def __call__(self, asked: object, seconds: int) -> Any:
        """Return what the work gives, after `seconds` of computing at most.

        Raises BoundExceeded when it takes more time or memory, and RuntimeError when it raises. Where processes cannot be
        forked (Windows) the work is done here, without bounds.
        """
        if not hasattr(os, "fork"):
            return self.work(asked)
        with self._lock:
            if self._owner != os.getpid():
                self._begin()
            deadline = time.monotonic() + WAITING * (seconds + 1)
            try:
                told = self._exchange(json.dumps([asked, seconds]).encode(), deadline)
            except BaseException:
                self._end()
                raise
            if told is None:
                status = self._end(wait=True)
                raise BoundExceeded(how_it_ended(status, seconds, self.memory))
        failed, value = json.loads(told)
        if failed:
            raise RuntimeError(value)
        return value

    def _begin(self) -> None:
        to_read, to_ask = os.pipe()
        answers, to_tell = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child computes in Python alone
            child = os.fork()
        if child == 0:
            serve(self.work, to_read, to_tell, self.memory)
        os.close(to_read)
        os.close(to_tell)
        self._owner, self._child, self._ends = os.getpid(), child, (to_ask, answers)
        self._finalizer = weakref.finalize(self, end_worker, self._owner, child, self._ends)

    def _exchange(self, asked: bytes, deadline: float) -> bytes | None:
        """Send a message and return the answer, None where the process has ended."""
        to_ask, answers = self._ends
        with suppress(BrokenPipeError):
            write_all(to_ask, len(asked).to_bytes(SIZE, "big") + asked)
        head = read_exactly(answers, SIZE, deadline)
        return None if head is None else read_exactly(answers, int.from_bytes(head, "big"), deadline)

    def _end(self, wait: bool = False) -> int:
        """Let go of the process; return how it ended, where it did by itself."""
        status = os.waitpid(self._child, 0)[1] if wait else 0
        self._owner = 0
        if self._finalizer is not None:
            if wait:
                self._finalizer.detach()
                for end in self._ends:
                    os.close(end)
            else:
                self._finalizer()
        return status


def end_worker(owner: int, child: int, ends: tuple[int, int]) -> None:
    """End a worker's process, in the process that began it: a fork of that only lets go of the pipes."""
    for end in ends:
        with suppress(OSError):
            os.close(end)
    if owner == os.getpid():
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def serve(work: Callable[[Any], Any], to_read: int, to_tell: int, memory: int) -> None:
    """Answer in the forked process until nobody asks any more."""
    import resource

    status = 1
    try:
        prepare()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal it is meant for whoever asks
        alone_with({to_read, to_tell})
        unbounded = [(kind, resource.getrlimit(kind)) for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS)]
        while (head := read_exactly(to_read, SIZE)) is not None:
            message = read_exactly(to_read, int.from_bytes(head, "big"))
            if message is None:
                break
            asked, seconds = json.loads(message)
            for kind, limits in unbounded:  # each piece of work has its own seconds
                resource.setrlimit(kind, limits)
            set_bounds(seconds, memory)
            try:
                answer: list[Any] = [False, work(asked)]
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - told to whoever asked, where it is raised
                answer = [True, f"{type(error).__name__}: {error}"]
            content = json.dumps(answer).encode()
            write_all(to_tell, len(content).to_bytes(SIZE, "big") + content)
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        os._exit(status)


def alone_with(kept: set[int]) -> None:
    """Close every file of the process but these, and send its output nowhere.

    What a fork holds open stays locked, and whoever waits for the end of an output waits for the fork.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    low = 3
    for descriptor in (*sorted(kept), os.sysconf("SC_OPEN_MAX")):
        os.closerange(low, descriptor)
        low = descriptor + 1


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def read_exactly(descriptor: int, count: int, deadline: float | None = None) -> bytes | None:
    """Read so many bytes, None where the other side has ended. Raises BoundExceeded at the deadline."""
    content = bytearray()
    while len(content) < count:
        if deadline is not None:
            waiting = select.poll()
            waiting.register(descriptor, select.POLLIN | select.POLLHUP)
            if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise BoundExceeded("it does not end")
        part = os.read(descriptor, min(count - len(content), 2**20))
        if not part:
            return None
        content += part
    return bytes(content)


def how_it_ended(status: int, seconds: int, memory: int) -> str:
    """Return in words what ended a process that gave nothing."""
    if os.WIFSIGNALED(status):
        ended = os.WTERMSIG(status)
        if ended == signal.SIGXCPU:
            return f"it does not end: nothing came of {seconds} s of computing"
        return f"it ends its process (signal {ended})"
    if os.WEXITSTATUS(status) == OUT_OF_MEMORY:
        return f"it takes more than {memory // 2**20} MiB of memory"
    return f"it ends its process (exit status {os.WEXITSTATUS(status)})"


def prepare() -> None:
    """Let a forked process leave alone what is its parent's."""
    faulthandler.disable()  # the parent says what became of it
    gc.disable()  # nothing of the parent's, such as memory of an accelerator, may be given back here
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU):
        signal.signal(one, signal.SIG_DFL)


def set_bounds(seconds: int, memory: int) -> None:
    """Bound this process's computing time, its memory where the system tells how much there is now, and its core files."""
    import resource

    lower(resource.RLIMIT_CORE, 0)
    spent = time.process_time()  # a forked process begins at zero; a system that counts on is allowed for
    lower(resource.RLIMIT_CPU, math.ceil(spent) + seconds)
    with suppress(OSError):  # no /proc: the time alone is bounded
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        lower(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + memory)


def lower(kind: int, value: int) -> None:
    """Set a soft limit, never above what it is."""
    import resource

    soft, hard = resource.getrlimit(kind)
    known = [one for one in (soft, hard, value) if one != resource.RLIM_INFINITY]
    resource.setrlimit(kind, (min(known), hard))
