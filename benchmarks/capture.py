"""Times the capture of activations against its floor and against the loop that most scripts have.

    python benchmarks/capture.py MODEL HARMFUL HARMLESS [--prompts 256] [--rounds 3] [--dtype float32 bfloat16]

MODEL is a folder, HARMFUL and HARMLESS are prompt files. Measured in turn, in one process, in an order that is
reversed from round to round:

    floor      the matrix products of the decoder layers, on as many tokens as capture has to run, in its batches
    capture    `abliterate.capture`, without its cache on the disk
    plain      a loop over the prompts with output_hidden_states=True
    batched    the same in batches of 16, padded as they come

"tokens" are real ones: no padding, and the prefix that the chat template puts before every prompt once, since
capture computes it once. The plain loops run it each time; their tokens are those of all prompts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import PreTrainedModel

from abliterate import capture, load_prompts
from abliterate.architectures.architecture import find_architecture
from abliterate.models.batches import prepare_batches
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer, resolve
from abliterate.prompts.chat_format import ChatFormat


def floor(model: PreTrainedModel, sizes: list[int]) -> Callable[[], None]:
    """Return what does every linear map of the decoder layers on batches of so many tokens."""
    linears = [module for module in model.get_decoder().layers.modules() if isinstance(module, nn.Linear)]
    widths = {one.in_features for one in linears}
    inputs = [{width: torch.randn(size, width).to(model.dtype) for width in widths} for size in sizes]

    def run() -> None:
        with torch.inference_mode():
            for batch in inputs:
                for one in linears:
                    one(batch[one.in_features])

    return run


def products(model: PreTrainedModel, tokens: int) -> int:
    """Return the floating point operations of `floor`."""
    linears = [module for module in model.get_decoder().layers.modules() if isinstance(module, nn.Linear)]
    return sum(2 * tokens * one.in_features * one.out_features for one in linears)


def plain(model: PreTrainedModel, sequences: list[list[int]], positions: int, rows: int) -> None:
    """Keep the hidden states of all layers at the last positions, `rows` prompts at a time in the order they come."""
    kept = []
    for start in range(0, len(sequences), rows):
        batch = sequences[start : start + rows]
        longest = max(map(len, batch))
        tokens = torch.tensor([[0] * (longest - len(one)) + one for one in batch])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in batch])
        with torch.no_grad():
            output = model(input_ids=tokens, attention_mask=mask, output_hidden_states=True)
        kept.append(torch.stack([state[:, -positions:] for state in output.hidden_states], dim=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("harmful", type=Path)
    parser.add_argument("harmless", type=Path)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    options = parser.parse_args()
    half = options.prompts // 2
    prompts = [one for file in (options.harmful, options.harmless) for one in load_prompts(str(file)).prompts[:half]]
    source = resolve(str(options.model))
    tokenizer = load_tokenizer(source)
    chat = ChatFormat(tokenizer)
    sequences = [list(one) for one in chat.encode(prompts)]
    for dtype in options.dtype:
        model = load_model(source, dtype, "cpu")
        architecture = find_architecture(model)
        prepared = prepare_batches(model, sequences, keep=-min(chat.positions()))
        sizes = [int(batch.lengths.sum()) for batch in prepared.batches] + [len(prepared.prefix)] * bool(
            prepared.prefix
        )
        runs: dict[str, Callable[[], object]] = {
            "floor": floor(model, sizes),
            "capture": lambda model=model, own=architecture: capture(model, chat, prompts, architecture=own),
            "plain": lambda model=model: plain(model, sequences, len(chat.positions()), 1),
            "batched": lambda model=model: plain(model, sequences, len(chat.positions()), 16),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        capture(model, chat, prompts[:8], architecture=architecture)
        for number in range(options.rounds):
            for name in list(runs)[:: 1 if number % 2 else -1]:
                begin = time.perf_counter()
                runs[name]()
                seconds[name].append(time.perf_counter() - begin)
                print(f"  {dtype} {name:8} {seconds[name][-1]:7.2f} s", file=sys.stderr)
        report(dtype, options.model.name, seconds, sum(sizes), sum(map(len, sequences)), products(model, sum(sizes)))


def report(dtype: str, name: str, seconds: dict[str, list[float]], own: int, every: int, operations: int) -> None:
    """Print the table."""
    table = Table(
        title=f"{name}, {dtype}, {torch.get_num_threads()} threads, {operations / 1e12:.2f} TFLOP of products"
    )
    for column in ("", "tokens run", "median s", "all s", "real tokens / s", "of the floor"):
        table.add_column(column, justify="right" if column else "left")
    base = statistics.median(seconds["floor"])
    for which, values in seconds.items():
        middle = statistics.median(values)
        tokens = every if which in ("plain", "batched") else own
        listed = " ".join(f"{value:.2f}" for value in values)
        table.add_row(which, str(tokens), f"{middle:.2f}", listed, f"{every / middle:.0f}", f"{base / middle:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
