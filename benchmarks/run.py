"""How long a run takes, step by step, each step beside its floor.

    python benchmarks/run.py MODEL --n-train 128

MODEL is run twice, with the search and by the published rule (`--no-optimize`). For every step: seconds, the operations of its matrix
products (counted by torch as they happen, forward and back), and the floor, which is the longer of two: these operations at the speed at
which this machine multiplies two matrices of the model's shapes in the dtype of the run, measured just before; and, for edit and
proof, the bytes of the files that must be read and written at the speed of a copy. Memory is the largest resident size of a
process of its own.

Run it on a machine that does nothing else: what else runs is measured as well.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

import abliterate
from abliterate.pipeline.find import Clock
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import run_steps
from abliterate.progress import SILENT

TINY = Path(abliterate.__file__).parent / "data" / "tiny-chat"
ROUNDS = 20
ROWS = 2048
"""Tokens in the product that measures the machine: as many as a large batch has."""

MOVED = {"edit": 2, "prove": 2}
"""How often each byte of the checkpoint is read or written in a step, at least: an edit reads and writes, a proof reads both."""


@dataclass
class CountingClock(Clock):
    """A clock that also counts the operations of each step."""

    operations: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time and count what is inside."""
        with FlopCounterMode(display=False) as counter, super().step(name):
            yield
        self.operations[name] = counter.get_total_flops()


def speed(width: int, inner: int, dtype: torch.dtype) -> float:
    """Return the operations a second of a product of the model's shapes."""
    one, other = torch.randn(ROWS, width).to(dtype), torch.randn(width, inner).to(dtype)
    with torch.inference_mode():
        one @ other
        begin = time.perf_counter()
        for _ in range(ROUNDS):
            one @ other
    return 2 * ROWS * width * inner * ROUNDS / (time.perf_counter() - begin)


def copying(folder: Path, out: Path) -> float:
    """Return the bytes a second of reading and writing the folder's weights."""
    files = sorted(folder.glob("*.safetensors"))
    begin = time.perf_counter()
    for file in files:
        shutil.copyfile(file, out / file.name)
        with (out / file.name).open("rb+") as written:
            os.fsync(written.fileno())
    return 2 * sum(file.stat().st_size for file in files) / (time.perf_counter() - begin)


def timed(asked: dict[str, Any]) -> dict[str, Any]:
    """Run once in this process; return seconds and operations of each step, and the largest memory."""
    clock = CountingClock()
    with tempfile.TemporaryDirectory() as folder:
        options = Options(asked.pop("model"), Path(folder) / "out", **asked)
        begin = time.perf_counter()
        result = run_steps(options, clock, SILENT)
        whole = time.perf_counter() - begin
        (Path(folder) / "copy").mkdir()
        source = Path(options.model)
        bytes_ = sum(file.stat().st_size for file in source.glob("*.safetensors"))
        config = json.loads((source / "config.json").read_text())
        figures = result.manifest["figures"]
        return {
            "seconds": clock.seconds,
            "operations": clock.operations,
            "whole": whole,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "bytes": bytes_,
            "copying": copying(source, Path(folder) / "copy"),
            "speed": speed(config["hidden_size"], config["intermediate_size"], torch.float32),
            "refused": [figures[side]["harmful_refusals"]["count"] for side in ("original", "edited")],
            "kl": figures["kl"]["first_token"]["mean"],
        }


def in_a_process(asked: dict[str, Any]) -> dict[str, Any]:
    """Do `timed` in a process of its own, with a cache of its own: nothing is known from before."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache, "ABLITERATE_CACHE": cache}
        words = [sys.executable, __file__, "--one", json.dumps(asked)]
        done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show_times(title: str, found: dict[str, Any]) -> None:
    """Print a run as a table."""
    table = Table(title=f"{title}: {found['whole']:.0f} s, {found['memory'] / 1e9:.2f} GB at most")
    for column in ("step", "seconds", "operations", "floor, s", "times the floor"):
        table.add_column(column, justify="left" if column == "step" else "right")
    floors = 0.0
    for step, seconds in found["seconds"].items():
        count = found["operations"][step]
        floor = max(count / found["speed"], MOVED.get(step, 0) * found["bytes"] / found["copying"])
        floors += floor
        table.add_row(
            step, f"{seconds:.1f}", f"{count:.2e}", f"{floor:.1f}", f"{seconds / floor:.1f}" if floor > 0.05 else ""
        )
    table.add_row(
        "all",
        f"{found['whole']:.1f}",
        f"{sum(found['operations'].values()):.2e}",
        f"{floors:.1f}",
        f"{found['whole'] / floors:.1f}",
    )
    console = Console(width=110)
    console.print(table)
    refused, edited = found["refused"]
    console.print(
        f"floor: {found['speed']:.2e} operations a second in products, {found['copying'] / 1e6:.0f} MB a second in copies; "
        f"refused {refused} -> {edited}, KL {found['kl']:.4f} at the first token (report split)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--n-train", type=int, default=128)
    parser.add_argument("--harmful", default="builtin:harmful")
    parser.add_argument("--harmless", default="builtin:harmless")
    parser.add_argument("--no-search", action="store_true", help="only by the published rule")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(timed(json.loads(asked.one))))
    elif asked.model:
        common = {"model": asked.model, "n_train": asked.n_train, "harmful": asked.harmful, "harmless": asked.harmless}
        for title, searches in (("by the published rule", False), ("with the search", True)):
            if not (searches and asked.no_search):
                show_times(title, in_a_process({**common, "optimize": searches}))
    else:
        parser.error("give a model")


if __name__ == "__main__":
    main()
