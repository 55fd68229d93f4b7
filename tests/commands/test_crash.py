"""Verbs that are killed, at any moment of their life: nothing is lost, and a rerun ends as if nothing had been."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures import crash
from fixtures.folders import PYTHONPATH

KILLS = int(os.environ.get("ABLITERATE_KILLS", "2"))
"""How often each verb is killed in the long run; 50 before an issue is closed."""

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="needs os.fork, to start the command as often as it is killed"
)


def killed(folder: Path, kills: int, *verbs: str) -> None:
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, crash.__file__, *verbs, "--times", str(kills), "--folder", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for verb in verbs:
        assert f"{verb}: {kills} kills in " in done.stdout
    assert done.stdout.count(" 0 losses") == len(verbs)
    assert not list(folder.iterdir())


def test_killed_verbs_lose_nothing(tmp_path: Path) -> None:
    """The one that writes most; all of them, fifty times each, by hand."""
    killed(tmp_path, 1, "apply")


@pytest.mark.slow
@pytest.mark.parametrize("verb", list(crash.VERBS))
def test_each_verb_killed_again_and_again_loses_nothing(tmp_path: Path, verb: str) -> None:
    killed(tmp_path, KILLS, verb)
