"""Times the replies of an evaluation against their floor and against the loops that most scripts have.

    python benchmarks/replies.py MODEL HARMFUL HARMLESS [--prompts 100] [--tokens 64] [--plain 12]

MODEL is a folder, HARMFUL and HARMLESS are prompt files, `--prompts` of each are taken. Measured in one process:

    floor      the matrix products alone: every prompt token once, then one row for each reply that has not ended in
               each step, in our batches, with the head
    ours       what `evaluate` and every run do
    batched    transformers' generate in batches of 16, padded as they come
    plain      transformers' generate, a prompt at a time, on `--plain` of the prompts, scaled to all
    evaluate   the whole of `abliterate evaluate`: replies, labels, predictions along the replies
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate import load_prompts
from abliterate.commands.evaluate import evaluate
from abliterate.models.batches import common_prefix
from abliterate.models.generation import REPLY_ROWS, generate
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer, resolve
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.options import Options
from abliterate.prompts.chat_format import ChatFormat


def floor(model: PreTrainedModel, sequences: list[list[int]], lengths: list[int]) -> tuple[float, float]:
    """Return the seconds and the TFLOP of the matrix products that these replies cannot do without."""
    linears = [one for one in model.get_decoder().layers.modules() if isinstance(one, nn.Linear)]
    head = model.get_output_embeddings()
    prefix = len(common_prefix(model, sequences))
    order = sorted(range(len(sequences)), key=lambda place: (len(sequences[place]), place))
    body, heads = [prefix] if prefix else [], []
    for start in range(0, len(order), REPLY_ROWS["cpu"]):
        rows = order[start : start + REPLY_ROWS["cpu"]]
        body.append(sum(len(sequences[row]) - prefix for row in rows))
        alive = [sum(lengths[row] > step for row in rows) for step in range(max(lengths[row] for row in rows))]
        body += alive[1:]  # the first token comes with the prompt
        heads += alive
    widths = {one.in_features for one in linears}
    inputs = {width: torch.randn(max(body), width).to(model.dtype) for width in widths}
    state = torch.randn(max(heads), head.in_features).to(model.dtype)
    begin = time.perf_counter()
    with torch.inference_mode():
        for size in body:
            for one in linears:
                one(inputs[one.in_features][:size])
        for size in heads:
            head(state[:size])
    seconds = time.perf_counter() - begin
    products = sum(body) * sum(one.weight.numel() for one in linears) + sum(heads) * head.weight.numel()
    return seconds, 2 * products / 1e12


def plain(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sequences: list[list[int]], rows: int, tokens: int
) -> None:
    """Generate as most scripts do, `rows` prompts at a time in the order they come."""
    for start in range(0, len(sequences), rows):
        batch = tokenizer.pad({"input_ids": sequences[start : start + rows]}, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            model.generate(**batch, max_new_tokens=tokens, do_sample=False, repetition_penalty=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("harmful", type=Path)
    parser.add_argument("harmless", type=Path)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--plain", type=int, default=12)
    given = parser.parse_args()
    files = [str(given.harmful), str(given.harmless)]
    prompts = [one for file in files for one in load_prompts(file).prompts[: given.prompts]]
    source = resolve(str(given.model))
    tokenizer, model = load_tokenizer(source), load_model(source, device="cpu")
    sequences = [list(one) for one in ChatFormat(tokenizer).encode(prompts)]
    generate(model, tokenizer, sequences[:2], 2)  # what is done once is done
    seconds: dict[str, float] = {}
    begin = time.perf_counter()
    lengths = [min(len(one) + 1, given.tokens) for one in generate(model, tokenizer, sequences, given.tokens)]
    seconds["ours"] = time.perf_counter() - begin
    base, products = floor(model, sequences, lengths)
    begin = time.perf_counter()
    plain(model, tokenizer, sequences, 16, given.tokens)
    seconds["batched, 16 rows"] = time.perf_counter() - begin
    some = sequences[:: max(1, len(sequences) // given.plain)]
    begin = time.perf_counter()
    plain(model, tokenizer, some, 1, given.tokens)
    seconds[f"plain, from {len(some)} prompts"] = (time.perf_counter() - begin) * len(sequences) / len(some)
    wanted = EvaluateOptions(reply_tokens=given.tokens, n_prompts=given.prompts, split="all", look_alikes=None)
    begin = time.perf_counter()
    evaluate(Options(str(given.model), Path(), harmful=files[0], harmless=files[1], device="cpu"), wanted, None)
    seconds["evaluate, whole"] = time.perf_counter() - begin
    table = Table(
        title=f"{given.model.name}, {model.dtype}, {torch.get_num_threads()} threads: {len(sequences)} replies, "
        f"{sum(lengths)} tokens, {products:.2f} TFLOP of products"
    )
    for column in ("", "seconds", "reply tokens / s", "of the floor"):
        table.add_column(column, justify="right" if column else "left")
    for name, value in (("floor", base), *seconds.items()):
        table.add_row(name, f"{value:.1f}", f"{sum(lengths) / value:.0f}", f"{base / value:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
