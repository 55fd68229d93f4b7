"""How fast this processor multiplies in each dtype, and so what `--dtype auto` runs a checkpoint in.

    python benchmarks/dtypes.py [--width 896] [--inner 4864] [--tokens 256]

A linear map of the size of Qwen2.5-0.5B's largest, forward (`x W^T`) and for the gradient (`g W`), as often as fits half a
second each. The floor of a pass is 2 * parameters * tokens operations at the figure of its dtype.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from abliterate.parallel.devices import computes_in

SECONDS = 0.5


def rate(product: Callable[[], Tensor], operations: int) -> float:
    """Return billions of operations a second."""
    product()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        product()
        done += 1
    return done * operations / (time.perf_counter() - start) / 1e9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--inner", type=int, default=4864)
    parser.add_argument("--tokens", type=int, default=256)
    given = parser.parse_args()
    table = Table("dtype", "forward, 1e9/s", "gradient, 1e9/s", "slower than float32", "instructions")
    slowest: dict[torch.dtype, float] = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weight = torch.randn(given.inner, given.width).to(dtype)
        states = torch.randn(given.tokens, given.width).to(dtype)
        gradient = torch.randn(given.tokens, given.inner).to(dtype)
        operations = 2 * weight.numel() * given.tokens
        forward = rate(lambda x=states, w=weight: x @ w.T, operations)  # type: ignore[misc]
        back = rate(lambda g=gradient, w=weight: g @ w, operations)  # type: ignore[misc]
        slowest[dtype] = 1 / (1 / forward + 1 / back)
        native = "yes" if computes_in(dtype, torch.device("cpu")) else "no: auto runs in float32"
        times = f"{slowest[torch.float32] / slowest[dtype]:.1f} times"
        table.add_row(str(dtype).removeprefix("torch."), f"{forward:.1f}", f"{back:.1f}", times, native)
    Console().print(table)
    print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {given.tokens} tokens")


if __name__ == "__main__":
    main()
