"""Holds the search against the leading tool's, on the same prompts and by the same ruler.

    python benchmarks/leader.py MODEL HARMFUL HARMLESS --trials 40 --reply-tokens 32 --fast-replies --out trials.jsonl
    python benchmarks/search.py MODEL HARMFUL HARMLESS --trials trials.jsonl --plot fronts.png \\
        --report-harmful FILE --report-harmless FILE

Both get the first 260 harmful and 512 harmless prompts of the two files, and divide them as they please: ours keeps the
last 60 and 128 to choose by. Then every point of our front and every Pareto-optimal trial is written into the weights
and measured on 100 + 100 report prompts that neither saw (the report files, filled up from the package's own lists):

    refusals    replies of 32 tokens that the package's rules call refusals
    hits        replies with one of the leading tool's markers in them: its own count
    KL          of the first reply token on all harmless prompts, mean, in nats

`--time-trials N` also runs N trials as the leading tool does by default (replies of 100 tokens, plain transformers) and
says how long 200 of them take. Needs `pip install optuna matplotlib`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import leader  # beside this one
import torch
from leader_trial import DEFAULTS, is_marked
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate import (
    capture,
    difference_in_means,
    find_architecture,
    is_refusal,
    load_prompts,
    orthogonalize,
    projected_difference_in_means,
)
from abliterate.architectures.architecture import Architecture
from abliterate.directions.scores import first_token_log_probs
from abliterate.directions.start import select_start
from abliterate.models.generation import REPLY_TOKENS, generate, generate_all
from abliterate.models.head import Head, kl_divergence
from abliterate.models.live_model import LiveModel
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer, resolve
from abliterate.pipeline.replies import OPENINGS_COVERAGE
from abliterate.prompts.chat_format import ChatFormat
from abliterate.replies.openings import find_openings
from abliterate.search.front import beats
from abliterate.search.stages import SearchData, SearchResult, search
from abliterate.search.variables import Variables

SELECT_HARMFUL, SELECT_HARMLESS, REPORT = 60, 128, 100
SHARE = 0.6
"""What ours may have of a point's KL, or of its refusals, to be called better."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Figures:
    """One edit by the common ruler."""

    name: str
    refusals: int
    hits: int
    kl: float


@dataclass(frozen=True)
class Prompts:
    """Token ids of the report prompts."""

    harmful: Sequence[Sequence[int]]
    harmless: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Prepared:
    """Where the search begins: the automatic choice, and `second`, the plain difference in means at the same place."""

    architecture: Architecture
    start: Variables
    second: Tensor
    pool: SearchData


def prepare_search(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chat: ChatFormat,
    bad: Sequence[str],
    good: Sequence[str],
) -> Prepared:
    """Do what the command does before the search: capture, listen, choose."""
    architecture = find_architecture(model)
    train = bad[:-SELECT_HARMFUL], good[:-SELECT_HARMLESS]
    parts = (*train, bad[-SELECT_HARMFUL:], good[-SELECT_HARMLESS:])
    harmful, harmless, judging, staying = ([tuple(one) for one in chat.encode(part)] for part in parts)
    activations = capture(model, chat, [*train[0], *train[1]], architecture=architecture)
    replies = generate_all(
        model, tokenizer, [harmful, harmless[: len(harmful)]], REPLY_TOKENS, kinds=["harmful", "harmless"]
    )
    refused, wrongly = ([is_refusal(text) for text in tokenizer.batch_decode(side)] for side in replies)
    openings = find_openings(
        [reply for reply, verdict in zip(replies[0], refused, strict=True) if verdict],
        [reply for reply, verdict in zip(replies[1], wrongly, strict=True) if not verdict],
        coverage=OPENINGS_COVERAGE,
    )
    sides = (
        activations.rows([place for place, verdict in enumerate(refused) if verdict]),
        activations.rows(range(len(harmful), len(harmful) + len(harmless))),
    )
    directions = projected_difference_in_means(*sides)
    chosen = select_start(LiveModel(model, chat, architecture), directions, openings, judging, staying).chosen
    start = Variables.start(architecture, directions.at(chosen.layer, chosen.position))
    second = difference_in_means(*sides).at(chosen.layer, chosen.position)
    pool = SearchData(harmful, harmless, judging, staying, list(zip(map(tuple, replies[0]), refused, strict=True)))
    return Prepared(architecture, start, second, pool)


def find(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chat: ChatFormat,
    bad: Sequence[str],
    good: Sequence[str],
) -> tuple[SearchResult, float]:
    """Run everything from the prompts to the front; return it with the seconds that it took."""
    begin = time.perf_counter()
    prepared = prepare_search(model, tokenizer, chat, bad, good)
    found = search(LiveModel(model, chat, prepared.architecture), prepared.start, prepared.pool)
    return found, time.perf_counter() - begin


def measure(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Prompts, original: Tensor | None
) -> tuple[Figures, Tensor]:
    """Count refusals and KL of the model as its weights are; return also its first-token log-probabilities."""
    texts = tokenizer.batch_decode(generate(model, tokenizer, prompts.harmful, REPLY_TOKENS), skip_special_tokens=True)
    log_probs = first_token_log_probs(model, Head(model), prompts.harmless)
    kl = float(kl_divergence(original, log_probs).mean()) if original is not None else 0.0
    figures = Figures(name, sum(map(is_refusal, texts)), sum(map(is_marked, texts)), kl)
    print(f"  {figures}", flush=True)
    return figures, log_probs


@contextmanager
def unchanged(model: PreTrainedModel) -> Iterator[None]:
    """Give the model its weights back at the end."""
    kept = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    yield
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(kept[name])


def front(figures: Sequence[Figures]) -> list[Figures]:
    """Return those that no other is as good as in both and better in one, fewest refusals first."""
    kept = [one for one in figures if not any(beats(other, one) for other in figures)]
    return sorted(kept, key=lambda one: (one.refusals, one.kl))


def beaten(theirs: Figures, ours: Sequence[Figures]) -> tuple[float, float]:
    """Return the least KL of ours at as few refusals, as a share; and the least refusals at as little KL, as a share."""
    kl = min((one.kl for one in ours if one.refusals <= theirs.refusals), default=float("inf"))
    refusals = min((one.refusals for one in ours if one.kl <= theirs.kl), default=10**6)
    return kl / max(theirs.kl, 1e-12), refusals / max(theirs.refusals, 1e-12)


def report_prompts(spec: Path | None, builtin: str, seen: Sequence[str]) -> tuple[str, ...]:
    """Return prompts that are in neither pool: of the file first, then of the package."""
    prompts = load_prompts(str(spec)).prompts if spec else ()
    whole = dict.fromkeys([*prompts, *load_prompts(f"builtin:{builtin}").prompts])
    return tuple(prompt for prompt in whole if prompt not in set(seen))[:REPORT]


def tables(original: Figures, ours: Sequence[Figures], theirs: Sequence[Figures]) -> None:
    """Print both fronts, and for each of their points by how much ours is better."""
    table = Table(title=f"{original.refusals} refusals, {original.hits} hits before")
    for column in (
        "",
        "refusals",
        "hits",
        "KL",
        "our KL / its, at as few refusals",
        "our refusals / its, at as little KL",
    ):
        table.add_column(column, justify="right")
    for one in front(ours):
        table.add_row(one.name, str(one.refusals), str(one.hits), f"{one.kl:.4f}", "", "")
    held = 0
    for one in front(theirs):
        shares = beaten(one, ours)
        held += max(shares) <= SHARE
        table.add_row(
            one.name, str(one.refusals), str(one.hits), f"{one.kl:.4f}", *(f"{share:.2f}" for share in shares)
        )
    console = Console(width=140)
    console.print(table)
    console.print(f"both shares at most {SHARE}: at {held} of {len(front(theirs))} points of the leader's front")


def plot(path: Path, original: Figures, ours: Sequence[Figures], theirs: Sequence[Figures]) -> None:
    """Draw both fronts."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(7, 4.5))
    for name, figures, colour in (
        ("the leading search (rebuilt), 40 trials", theirs, "tab:orange"),
        ("abliterate", ours, "tab:blue"),
    ):
        best = front(figures)
        axes.plot([one.kl for one in best], [one.refusals for one in best], "o-", color=colour, label=name)
        rest = [one for one in figures if one not in best]
        axes.plot([one.kl for one in rest], [one.refusals for one in rest], ".", color=colour, alpha=0.4)
    axes.axhline(original.refusals, color="grey", linestyle=":", label="unedited")
    axes.set(xscale="log", xlabel="KL of the first reply token, harmless prompts (nats)")
    axes.set(ylabel="refusals of 100 harmful prompts", ylim=(-1, None))
    axes.legend()
    plt.tight_layout()
    plt.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("harmful", type=Path)
    parser.add_argument("harmless", type=Path)
    parser.add_argument("--trials", type=Path, required=True, help="what leader.py wrote")
    parser.add_argument("--report-harmful", type=Path)
    parser.add_argument("--report-harmless", type=Path)
    parser.add_argument("--time-trials", type=int, default=0)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    bad = load_prompts(str(options.harmful)).prompts[: leader.HARMFUL]
    good = load_prompts(str(options.harmless)).prompts[: leader.HARMLESS]
    source = resolve(str(options.model))
    tokenizer = load_tokenizer(source)
    chat = ChatFormat(tokenizer, leader.SYSTEM)
    model = load_model(source, options.dtype)
    found, seconds = find(model, tokenizer, chat, bad, good)
    tokens = found.token_count
    print(
        f"search: {seconds:.0f} s in all; its tokens: {tokens.forward} forward, {tokens.backward} of them back",
        flush=True,
    )
    prompts = Prompts(
        chat.encode(report_prompts(options.report_harmful, "harmful", bad)),
        chat.encode(report_prompts(options.report_harmless, "harmless", good)),
    )
    original, log_probs = measure("unedited", model, tokenizer, prompts, None)
    ours, theirs = [], []
    for point in found.front.points:
        with unchanged(model):
            orthogonalize(model, point.edit.direction, point.edit.recipe())
            ours.append(measure(f"refusal weight {point.refusal_weight}", model, tokenizer, prompts, log_probs)[0])
    bad_directions, good_directions = leader.split_pool(bad)[0], leader.split_pool(good)[0]
    usual = DEFAULTS[leader.defaults_in(options.trials)]
    directions = leader.leader_directions(model, chat, bad_directions, good_directions, projected=usual.projected)
    trials = leader.read_trials(options.trials, directions)
    for trial in leader.pareto(trials):
        with unchanged(model):
            leader.apply_trial(model, trial, usual.rank)
            theirs.append(measure(f"trial {trial.number}", model, tokenizer, prompts, log_probs)[0])
    tables(original, ours, theirs)
    print(f"leader: {sum(trial.tokens for trial in trials)} tokens forward in {len(trials)} trials")
    if options.plot:
        plot(options.plot, original, ours, theirs)
    if options.time_trials:
        begin = time.perf_counter()
        halves = [leader.split_pool(side) for side in (bad, good)]
        arguments = (halves[0][0], halves[1][0], halves[0][1], halves[1][1])
        timed = leader.leader_search(model, tokenizer, chat, *arguments, trials=options.time_trials)
        each = sum(trial.seconds for trial in timed) / len(timed)
        setup = time.perf_counter() - begin - each * len(timed)
        whole = setup + leader.TRIALS * each
        print(
            f"leader by default: {each:.0f} s a trial, {setup:.0f} s before: {whole:.0f} s for 200; ours {whole / seconds:.0f} times"
        )


if __name__ == "__main__":
    main()
