"""How OpenMP's threads wait, and how many there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from abliterate.parallel.waiting import processors_of, share_the_machine
from fixtures.tiny_chat import TINY


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_who_has_chosen_how_to_wait_is_heard(name: str, tmp_path: Path) -> None:
    chosen = {name: "7"}
    share_the_machine(chosen, tmp_path / "none")
    assert chosen == {name: "7"}


def test_threads_wait_asleep_and_their_number_is_torch_s(tmp_path: Path) -> None:
    chosen: dict[str, str] = {}
    share_the_machine(chosen, tmp_path / "none")
    assert chosen == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize(
    ("text", "most"),
    [("max 100000\n", None), ("200000 100000\n", 2), ("50000 100000\n", 1), ("350000 100000", 3), ("", None)],
)
def test_a_container_s_quota_is_read(text: str, most: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert processors_of(tmp_path / "cpu.max") == most


def test_no_more_threads_than_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    chosen: dict[str, str] = {}
    share_the_machine(chosen, tmp_path / "cpu.max")
    assert chosen["OMP_NUM_THREADS"] == "2"
    own = {"OMP_NUM_THREADS": "5"}
    share_the_machine(own, tmp_path / "cpu.max")
    assert own["OMP_NUM_THREADS"] == "5"


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP tells what it read; others do not")
@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({}, "PASSIVE"),
        pytest.param({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", marks=pytest.mark.slow),
    ],
)
def test_the_command_decides_before_torch_is_there(own: dict[str, str], told: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-m", "abliterate", "inspect", str(TINY), "--json"],
        env={**environment, "OMP_DISPLAY_ENV": "TRUE", **own},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"OMP_WAIT_POLICY = '{told}'" in done.stderr
