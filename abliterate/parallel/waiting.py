"""How OpenMP's threads wait, and how many there are: decided before torch is imported, for the command alone.

torch cuts each operation into a share a thread, and all wait until the last is done. GNU's OpenMP waits by spinning: on
a machine that others use too, threads that only wait take the processor from those that work. Waiting asleep costs a
wake-up an operation where the machine is idle, and the machine's share and no more where it is not
(`benchmarks/loaded.py` measures both).
"""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What says how threads wait, for GNU's and Intel's OpenMP: where one is set, somebody has decided."""

THREADS = "OMP_NUM_THREADS"

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What a container may take of the processors: microseconds of each period, or max."""


def share_the_machine(environment: MutableMapping[str, str] = os.environ, quota: Path = QUOTA) -> None:
    """Let threads wait asleep, and be as many as a container's quota of processors, unless the environment says otherwise.

    Must come before torch is imported: its OpenMP reads the environment once. In the library the user decides.
    """
    if not any(name in environment for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    allowed = processors_of(quota)
    if THREADS not in environment and allowed is not None and allowed < (os.cpu_count() or 1):
        environment[THREADS] = str(allowed)


def processors_of(quota: Path) -> int | None:
    """Return how many processors a control group may keep busy, at least one; None where nothing limits it."""
    try:
        most, period = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None  # another system than Linux, or no control groups: nothing limits it there
    return None if most == "max" else max(1, math.floor(int(most) / int(period)))
