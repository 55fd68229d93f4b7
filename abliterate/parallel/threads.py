"""Jobs in threads: as many as torch may use, torch itself using one thread in each.

Work on files waits for the kernel and for memory, which threads of torch cannot help with; and on blocks that fit
into a core's cache they wait for each other longer than they work. So threads take whole jobs instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

from abliterate.progress import Advance

Returned = TypeVar("Returned")

MOST = 16
"""Threads at most: more of them only wait for the disk, and each takes memory for its blocks."""


def in_threads(jobs: Iterable[Callable[[], Returned]]) -> list[Returned]:
    """Run the jobs, started in their order, and return their results in it.

    After an error no further job is started; when those that run have ended, that of the first job in order is raised.
    """
    workers = min(torch.get_num_threads(), MOST)
    if workers == 1:
        return [job() for job in jobs]
    with one_torch_thread(), ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        # Jobs start in their order, so the first that can fail has run: which one is not left to chance.
        failed = [future for future in futures if not future.cancelled() and future.exception()]
        return [future.result() for future in failed or futures]


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch use one thread in the context: in this thread and those that are started in it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_at_a_time(advance: Advance) -> Advance:
    """Return `advance` for several threads: whoever draws the progress need not know of them."""
    lock = threading.Lock()

    def locked(units: int) -> None:
        with lock:
            advance(units)

    return locked
