"""How long a run takes, step by step, each step beside its floor; and how each step grows with what it is given.

    python benchmarks/run.py MODEL --n-train 128
    python benchmarks/run.py --growth

MODEL is run twice, with the search and by the published rule (`--no-optimize`). For every step: seconds, the operations of its matrix
products (counted by torch as they happen, forward and back), and the floor, which is the longer of two: these operations at the speed at
which this machine multiplies two matrices of the model's shapes in the dtype of the run, measured just before; and, for edit and
proof, the bytes of the files that must be read and written at the speed of a copy. Memory is the largest resident size of a
process of its own.

`--growth` makes random models, runs them with the search (a made-up behaviour that half of all texts show stands for refusals, which these do
not know) and doubles one thing at a time: the prompts, the layers, the width, the vocabulary. It prints by how much each step grows.

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
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import abliterate
from abliterate.pipeline.find import Clock
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import run_steps
from abliterate.progress import SILENT
from abliterate.replies.behaviours import BEHAVIOURS
from abliterate.replies.refusals import is_refusal

TINY = Path(abliterate.__file__).parent / "data" / "tiny-chat"
ROUNDS = 20
ROWS = 2048
"""Tokens in the product that measures the machine: as many as a large batch has."""

MOVED = {"edit": 2, "prove": 2}
"""How often each byte of the checkpoint is read or written in a step, at least: an edit reads and writes, a proof reads both."""

BASE = {"prompts": 32, "layers": 4, "width": 256, "vocabulary": 2048}
"""What `--growth` doubles."""


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
    if asked.pop("parity", False):
        BEHAVIOURS["parity"] = Parity()  # type: ignore[index]
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


class Parity:
    """A behaviour that half of all texts show: by a checksum of their first words, so that it has openings; or a refusal."""

    def shows(self, reply: str) -> bool:
        """Tell whether the text's checksum is odd."""
        return is_refusal(reply) or zlib.crc32(reply[:6].encode()) % 2 == 1


def random_model(folder: Path, layers: int, width: int, vocabulary: int) -> Path:
    """Write a random model with the tiny model's tokenizer."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    heads = width // 32
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=heads, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, initializer_range=0.1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def grown(folder: Path, prompts: int, layers: int, width: int, vocabulary: int) -> dict[str, Any]:
    """Run on a random model."""
    model = random_model(folder / f"{layers}-{width}-{vocabulary}", layers, width, vocabulary)
    lists = {side: str(TINY / f"{side}.txt") for side in ("harmful", "harmless")}
    return in_a_process(
        {
            "model": str(model),
            **lists,
            "n_train": prompts,
            "optimize": True,
            "parity": True,
            "target": "parity",
            "device": "cpu",
        }
    )


def growth() -> None:
    """Print by how much each step grows when one thing is doubled."""
    with tempfile.TemporaryDirectory() as name:
        base = grown(Path(name), *BASE.values())
        others = {one: grown(Path(name), *{**BASE, one: 2 * BASE[one]}.values()) for one in BASE}
    said = ", ".join(f"{count} {one}" for one, count in BASE.items())
    table = Table(title=f"seconds of each step ({said}), and how often as many with twice as much")
    for column in ("step", "seconds", *(f"{one} x 2" for one in BASE)):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step, seconds in {**base["seconds"], "all": base["whole"]}.items():
        after = [(one["whole"] if step == "all" else one["seconds"][step]) / seconds for one in others.values()]
        table.add_row(step, f"{seconds:.2f}", *(f"{one:.2f}" for one in after))
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--n-train", type=int, default=128)
    parser.add_argument("--harmful", default="builtin:harmful")
    parser.add_argument("--harmless", default="builtin:harmless")
    parser.add_argument("--no-search", action="store_true", help="only by the published rule")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(timed(json.loads(asked.one))))
    elif asked.growth:
        growth()
    elif asked.model:
        common = {"model": asked.model, "n_train": asked.n_train, "harmful": asked.harmful, "harmless": asked.harmless}
        for title, searches in (("by the published rule", False), ("with the search", True)):
            if not (searches and asked.no_search):
                show_times(title, in_a_process({**common, "optimize": searches}))
    else:
        parser.error("give a model, or --growth")


if __name__ == "__main__":
    main()
