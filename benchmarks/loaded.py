"""What a run costs on a machine that others use too, by how OpenMP's threads wait and how many they are.

    python benchmarks/loaded.py [MODEL] [--others 2] [--repeats 3] [ABLITERATE OPTIONS...]

Runs the whole command (`abliterate demo`, or `abliterate MODEL`) again and again, on the machine as it is and beside
processes that keep a processor busy each, the ways of waiting in turn. A table of medians: seconds, and seconds of
processors. The floor beside a load is the machine's share: with n processors, t threads and b busy others, a thread gets
n / (t + b) of a processor at most, so the run takes (t + b) / n times as long as alone, once t + b is more than n.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

WAYS: dict[str, dict[str, str]] = {
    "asleep (the command's own)": {},
    "a little spinning, then asleep": {"GOMP_SPINCOUNT": "10000"},
    "torch's default": {"GOMP_SPINCOUNT": "300000"},
    "spinning": {"OMP_WAIT_POLICY": "ACTIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""Ways of waiting. GNU's OpenMP spins 300,000 times where nobody says how to wait."""


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processors busy with other work."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(command: list[str], way: dict[str, str]) -> tuple[float, float]:
    """Return the seconds of a whole command, and those of processors that it took."""
    decided = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in decided}
    with tempfile.TemporaryDirectory() as cache:
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, env={**environment, **way, "ABLITERATE_CACHE": cache}, check=True, capture_output=True)
        taken, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", help="a model; without one the bundled tiny model's demo")
    parser.add_argument("--others", type=int, default=os.cpu_count(), help="processes that keep a processor busy")
    parser.add_argument("--repeats", type=int, default=3)
    options, further = parser.parse_known_args()
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        own = ["demo"] if options.model is None else [options.model, "--out", str(Path(folder) / "edited"), "--force"]
        command = [sys.executable, "-m", "abliterate", *own, *further]
        for _ in range(options.repeats):
            for way, chosen in WAYS.items():
                rows.setdefault((way, "idle"), []).append(seconds(command, chosen))
                with busy(options.others):
                    rows.setdefault((way, "loaded"), []).append(seconds(command, chosen))
    cores = os.cpu_count() or 1
    table = Table(
        title=f"{' '.join(own[:1])}: {cores} processors, {options.others} busy others, {options.repeats} runs each"
    )
    for column in ("threads wait", "idle, s", "loaded, s", "loaded / idle", "share", "processor s idle", "loaded"):
        table.add_column(column, justify="left" if column == "threads wait" else "right")
    for way, chosen in WAYS.items():
        idle, loaded = (
            [statistics.median(values) for values in zip(*rows[way, state], strict=True)]
            for state in ("idle", "loaded")
        )
        threads = int(chosen.get("OMP_NUM_THREADS", cores))
        share = max(1.0, (threads + options.others) / cores)
        ratio = loaded[0] / idle[0]
        cells = (
            f"{idle[0]:.1f}",
            f"{loaded[0]:.1f}",
            f"{ratio:.2f}",
            f"{share:.2f}",
            f"{idle[1]:.1f}",
            f"{loaded[1]:.1f}",
        )
        table.add_row(way, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
