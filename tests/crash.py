"""Kills `abliterate apply` at random moments of its writing, and looks at what it leaves.

    python tests/crash.py [--times 50] [--seed 0] [--folder DIR] [--size-mb 200]

Makes a checkpoint of several shards from the tiny chat model (tensors that it does not load make it larger), and runs
the command on it once undisturbed. Then, again and again: starts the command, waits until it begins to write, kills it
with SIGKILL at a random moment, and holds that the source has not changed, that the destination is absent or complete,
and that the same command then finishes with the same bytes as the undisturbed run. One line tells of each kill.

The command is started by forking a process that has imported everything and computed nothing: seconds less each time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import load_file

from abliterate import cli
from abliterate.commands import apply, verify  # noqa: F401
from abliterate.directions.directions import Directions
from abliterate.render import applied, verified  # noqa: F401 - imported before the fork
from abliterate.storage.staging import JOURNAL
from checkpoints import write_file, write_index

SHARDS = 6
LAYER = 4
HALF = 0.5
PATIENCE = 60
"""Seconds after which a run is taken to hang."""


@dataclass(frozen=True)
class Setting:
    """The folders of one session, and how to start the command in them."""

    source: Path
    directions: Path
    destination: Path
    log: Path

    @property
    def partial(self) -> Path:
        return self.destination.with_name(self.destination.name + ".partial")

    def start(self) -> int:
        """Run the real command in a fork; return its process id."""
        words = ["apply", str(self.source), "--directions", str(self.directions), "--layer", str(LAYER)]
        return forked(lambda: cli.main([*words, "--device", "cpu", "--out", str(self.destination)]), self.log)

    def finished_files(self) -> int:
        """Count the files that the journal calls finished."""
        try:
            return len(json.loads((self.partial / JOURNAL).read_text())["files"])
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def clear(self) -> None:
        shutil.rmtree(self.destination.parent)
        self.destination.parent.mkdir()


def forked(function: Callable[[], object], log: Path) -> int:
    """Call in a fork, which says what it has to say in a file; return its process id."""
    child = os.fork()
    if child:
        return child
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    code = 1
    try:
        function()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        os._exit(code)  # a fork must not return into its parent's code


def ended(child: int) -> int:
    """Wait for a fork; return its exit code, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepare(root: Path, size_mb: int) -> None:
    """Make source and directions."""
    tiny = Path(str(resources.files("abliterate") / "data" / "tiny-chat"))
    source = root / "source"
    shutil.copytree(tiny, source)
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    ballast = torch.arange(max(1, size_mb * 1_000_000 // SHARDS // 4), dtype=torch.int32).view(torch.float32)
    names, weight_map = sorted(tensors), {}
    for number in range(SHARDS):
        shard = {f"ballast.{number}": ballast} | {name: tensors[name] for name in names[number::SHARDS]}
        name = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        write_file(source / name, shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, name)
    write_index(source, weight_map)
    width = tensors["model.norm.weight"].numel()
    differences = torch.randn(1, LAYER + 1, width, generator=torch.Generator().manual_seed(0))
    Directions(differences, (-1,), "mean-difference").save(root / "directions.safetensors", -1)
    (root / "room").mkdir()


def digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def wait_for(condition: Callable[[], bool]) -> float:
    """Wait; return the time at which the condition was met."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the command does not come so far"
        time.sleep(0.0005)
    return time.monotonic()


def undisturbed(setting: Setting) -> tuple[dict[str, str], float, float]:
    """Run to the end; return the bytes, and the seconds from the first writing to the last shard and to the end."""
    child = setting.start()
    begin = wait_for(setting.partial.exists)
    written = wait_for(lambda: setting.finished_files() >= SHARDS) - begin
    whole = wait_for(setting.destination.exists) - begin
    assert ended(child) == 0
    expected = digests(setting.destination)
    assert len([name for name in expected if name.endswith(".safetensors")]) == SHARDS + 1
    setting.clear()
    return expected, written, whole


def kill_once(setting: Setting, delay: float) -> str:
    """Start the command and kill it so long after it began to write; say how far it had come."""
    child = setting.start()
    wait_for(lambda: setting.partial.exists() or setting.destination.exists())
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    code = ended(child)
    if setting.destination.exists():
        return "after the end" if code == 0 else "after the rename"
    done = setting.finished_files()
    return f"shard {done + 1} of {SHARDS}" if done < SHARDS else "while it was proved"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size-mb", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    generator, outcomes = random.Random(options.seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="abliterate-crash-", dir=options.folder) as folder:
        root = Path(folder)
        # In a fork too: threads that torch starts here would be missing in all later forks, which would wait for them.
        assert ended(forked(lambda: prepare(root, options.size_mb), root / "log")) == 0
        setting = Setting(root / "source", root / "directions.safetensors", root / "room" / "edited", root / "log")
        before = digests(setting.source)
        expected, written, whole = undisturbed(setting)
        sys.stdout.write(f"undisturbed: {written:.2f} s to the last shard, {whole:.2f} s to the end\n")
        for number in range(options.times):
            # Half of them while shards are written, which is short; the others anywhere up to a little behind the end.
            delay = generator.uniform(0, written if generator.random() < HALF else 1.1 * whole)
            outcome = kill_once(setting, delay)
            assert digests(setting.source) == before, "the source changed"
            complete = setting.destination.exists()
            assert not complete or digests(setting.destination) == expected, "the destination is torn"
            code = ended(setting.start())
            assert code == (2 if complete else 0), f"the rerun ended with exit code {code}: {setting.log.read_text()}"
            assert digests(setting.destination) == expected, "the rerun gave other bytes"
            left = {path.name for path in setting.destination.parent.iterdir()}
            assert {name for name in left if not name.startswith(".")} == {"edited"}, f"the rerun left {left}"
            assert digests(setting.source) == before, "the rerun changed the source"
            outcomes[outcome] += 1
            sys.stdout.write(f"{number + 1:3d}  killed after {delay:.3f} s: {outcome}; the rerun gave the same bytes\n")
            sys.stdout.flush()
            setting.clear()
    for outcome, count in sorted(outcomes.items()):
        sys.stdout.write(f"{count:3d} x {outcome}\n")


if __name__ == "__main__":
    main()
