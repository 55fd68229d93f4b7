"""The main verb: what must be known of a push is known first, and a process that helps returns nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.commands import run as module
from abliterate.commands.run import run
from abliterate.errors import HubError
from abliterate.parallel.processes import Processes
from abliterate.pipeline.options import Options


def test_a_push_that_cannot_be_ends_it_before_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(repository: str) -> None:
        raise HubError(repository)

    def never(*arguments: object) -> None:
        raise AssertionError("begun")

    monkeypatch.setattr(module, "check_push", refused)
    monkeypatch.setattr(module.job, "run", never)
    with pytest.raises(HubError, match="me/x"):
        run(Options("x", tmp_path), "me/x")


def test_a_process_beside_the_first_only_helps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    helped: list[Options] = []
    monkeypatch.setattr(Processes, "launched", lambda: Processes(1, 2))
    monkeypatch.setattr(module, "assist", helped.append)
    options = Options("x", tmp_path)
    assert run(options, "me/x") is None
    assert helped == [options]
