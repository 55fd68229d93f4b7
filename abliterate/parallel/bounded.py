"""Work of foreign making in a process of its own, with bounds on its time and memory.

What a chat template does is its maker's choice: nested loops that never end, strings of gigabytes, powers that no signal
interrupts. A forked process costs some 20 ms, and the kernel holds its bounds whatever runs in it.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import math
import os
import selectors
import signal
import time
import warnings
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


class BoundExceeded(Exception):
    """The work took more time or memory than it may, or ended its process; the text says which."""


def bounded(work: Callable[[], Any], seconds: int, memory: int = MEMORY) -> Any:
    """Return what `work` gives, a value that JSON can hold, after `seconds` of computing at most.

    Raises BoundExceeded when it takes more, and RuntimeError when it raises. Where processes cannot be forked (Windows)
    the work is done here, without bounds.
    """
    if not hasattr(os, "fork"):
        return work()
    reading, writing = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child computes in Python alone
            child = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if child == 0:
        os.close(reading)
        work_and_end(work, writing, seconds, memory)
    os.close(writing)
    try:
        told = read_until(reading, time.monotonic() + WAITING * (seconds + 1))
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(reading)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == OUT_OF_MEMORY:
        raise BoundExceeded(how_it_ended(status, seconds, memory))
    value = json.loads(told)
    if os.WEXITSTATUS(status):
        raise RuntimeError(value)
    return value


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


def read_until(reading: int, deadline: float) -> bytes:
    """Read a pipe to its end. Raises BoundExceeded at the deadline."""
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise BoundExceeded("it does not end")
            part = os.read(reading, 2**20)
            if not part:
                return b"".join(parts)
            parts.append(part)


def work_and_end(work: Callable[[], Any], writing: int, seconds: int, memory: int) -> None:
    """Do the work in the forked process, tell what came of it, and end without what a process does at its end."""
    status = 1
    try:
        prepare()
        set_bounds(seconds, memory)
        try:
            value, after = work(), 0
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
            value, after = f"{type(error).__name__}: {error}", 1
        with os.fdopen(writing, "wb") as file:
            file.write(json.dumps(value).encode())
        status = after
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        os._exit(status)


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
