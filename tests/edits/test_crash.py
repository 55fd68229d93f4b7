from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures import crash
from fixtures.folders import PYTHONPATH


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, to start the command as often as it is killed")
def test_killed_at_a_random_moment_the_command_continues(tmp_path: Path) -> None:
    """A short run of `crash.py`; run it by hand for fifty kills."""
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, crash.__file__, "--times", "2", "--folder", str(tmp_path), "--size-mb", "60"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the rerun gave the same bytes") == 2
    assert not list(tmp_path.iterdir())
