"""Processes share items."""

from __future__ import annotations

from abliterate.parallel.processes import Processes


def test_processes_share_items_and_put_them_together() -> None:
    parts = [Processes(rank, 3).own(range(8)) for rank in range(3)]
    assert parts == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert Processes().gather([1, 2]) == [1, 2]
