from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from abliterate.parallel.threads import in_threads, one_at_a_time


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"], autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_jobs() -> None:
    assert in_threads([lambda number=number: number for number in range(50)]) == list(range(50))
    assert in_threads([]) == []


def test_torch_uses_one_thread_in_each() -> None:
    assert set(in_threads([torch.get_num_threads] * 9)) == {1}


def test_after_an_error_no_job_is_started(threads: int) -> None:
    started, gate = [], threading.Event()

    def job(number: int) -> None:
        started.append(number)
        if number == 0:
            raise ValueError("the first")
        gate.wait(0.05)

    with pytest.raises(ValueError, match="the first"):
        in_threads([lambda number=number: job(number) for number in range(400)])
    assert len(started) < 200


def test_a_counter_loses_nothing() -> None:
    counted = 0

    def add(units: int) -> None:
        nonlocal counted
        before = counted
        counted = before + units

    advance = one_at_a_time(add)
    in_threads([lambda: [advance(1) for _ in range(1000)]] * 8)
    assert counted == 8000
