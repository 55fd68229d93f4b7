"""The published search of the leading abliteration tool, written anew from its description, to measure against.

    python benchmarks/leader.py MODEL HARMFUL HARMLESS --trials 40 --reply-tokens 32 --fast-replies --out trials.jsonl

MODEL is a folder, HARMFUL and HARMLESS are prompt files; `pip install optuna` first. optuna's TPE minimises two scores
at once, over which direction is removed from the outputs of attention and MLP, and how strongly at which layer:

    refusals    replies to harmful prompts with one of MARKERS in them, over those of the unedited model
    KL          of the first reply token on harmless prompts; below 0.01 it counts as 0.01 times the refusal score,
                which keeps the search from polishing edits that do nothing

Since 1.3 its directions are without what harmless prompts have in common, and each row of a weight keeps its norm, as nearly as an
adapter of rank 3 can: --defaults 1.3, which is the default here; --defaults 1.2 is the exact projection along the plain difference.
Such an edit is not silent: normalising the rows puts a part of the direction back, and the adapter is an approximation.

Its own defaults are 200 trials, of which the first 60 are random, and replies of 100 tokens; with other numbers of
trials the share of random ones stays 60/200. Replies come from plain `model.generate(do_sample=False)` on batches padded
on the left, as there; --fast-replies takes this package's `generate`, and its forward for the first token: the same
up to rounding (and up to penalties in the model's generation config, which only the plain one obeys), in less time.

--ruler makes the trials comparable with the searches of `ranks.py`: the report split of the lists is left out, and prompts are put
as a run does, without a system message; `ranks.py --leader trials.jsonl` then measures both.

Trials are appended to --out as they end, and a search that was interrupted goes on from there as if it had not been:
the sampler is seeded anew for each trial, by --seed and the trial's number.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import optuna
from jaxtyping import Float
from leader_trial import (  # beside this one
    COMPONENTS,
    DEFAULTS,
    SCOPES,
    Evaluation,
    Trial,
    Value,
    apply_edit,
    apply_trial,
    counted_tokens,
    edit_of,
    leader_directions,
    restored,
)
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate import load_prompts
from abliterate.errors import InputError
from abliterate.models.head import kl_divergence
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer, resolve
from abliterate.prompts.chat_format import ChatFormat

__all__ = [
    "Trial",
    "apply_trial",
    "leader_directions",
    "leader_search",
    "pareto",
    "read_trials",
    "restored",
    "ruled_trials",
    "split_pool",
]

TRIALS, STARTUP_TRIALS, REPLY_TOKENS = 200, 60, 100
"""The tool's defaults."""

CANDIDATES = 128
"""Expected-improvement candidates of the sampler."""

LITTLE_KL, KL_SCALE = 0.01, 1.0

EVALUATION, HARMFUL, HARMLESS, DIRECTION = 100, 260, 512, 400
"""Prompts a side that measure the trials, those taken from each file, and those at most that give the directions."""

SYSTEM = "You are a helpful assistant."


def search_space(depth: int) -> dict[str, BaseDistribution]:
    """Return the parameters of a trial for a model of so many layers. All are drawn in each, used or not."""
    last = depth - 1
    space: dict[str, BaseDistribution] = {
        "direction_scope": CategoricalDistribution(SCOPES),
        "direction_index": FloatDistribution(0.4 * last, 0.9 * last),
    }
    for component in COMPONENTS:
        space[f"{component}.max_weight"] = FloatDistribution(0.8, 1.5)
        space[f"{component}.max_weight_position"] = FloatDistribution(0.6 * last, last)
        space[f"{component}.min_weight"] = FloatDistribution(0.0, 1.0)
        space[f"{component}.min_weight_distance"] = FloatDistribution(1.0, 0.6 * last)
    return space


def scores(hits: int, kl: float, hits_before: int) -> tuple[float, float]:
    """Return what is minimised: the KL score and the refusal score."""
    refusal = hits / hits_before
    return (refusal * LITTLE_KL if kl < LITTLE_KL else kl / KL_SCALE), refusal


def sampler_of(number: int, trials: int, seed: int) -> optuna.samplers.TPESampler:
    """Return the sampler for one trial, so that it draws the same whether or not the search was interrupted before."""
    own = int(numpy.random.SeedSequence([seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(
        multivariate=True,
        n_startup_trials=max(1, round(trials * STARTUP_TRIALS / TRIALS)),
        n_ei_candidates=CANDIDATES,
        seed=own,
    )


def leader_search(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chat: ChatFormat,
    harmful_train: Sequence[str],
    harmless_train: Sequence[str],
    harmful_eval: Sequence[str],
    harmless_eval: Sequence[str],
    trials: int = TRIALS,
    reply_tokens: int = REPLY_TOKENS,
    seed: int = 0,
    callback: Callable[[Trial], None] = lambda trial: None,
    *,
    fast_replies: bool = False,
    batch_size: int = 32,
    out: Path | None = None,
    defaults: str = "1.3",
) -> list[Trial]:
    """Run the search, or what is missing of it in the file `out`; the model is left as it was.

    `callback` is called with each trial as it ends. Raises InputError where the unedited model refuses nothing, and
    where `out` holds another search.
    """
    groups = (harmful_train, harmless_train, harmful_eval, harmless_eval)
    settings: dict[str, object] = {
        "trials": trials, "reply_tokens": reply_tokens, "seed": seed, "fast_replies": fast_replies, "system": chat.system,
        "defaults": defaults,
        "model": Path(model.name_or_path).name, "dtype": str(model.dtype),
        "prompts": digests(groups), "evaluation": len(harmful_eval),
    }  # fmt: skip
    before = unedited_in(out, settings) if out else None
    begin = time.perf_counter()
    asked = (chat.encode(harmful_eval), chat.encode(harmless_eval))
    evaluation = Evaluation(model, tokenizer, *asked, reply_tokens, fast_replies, batch_size)
    with counted_tokens(model) as tokens:
        usual = DEFAULTS[defaults]
        directions = leader_directions(model, chat, harmful_train, harmless_train, projected=usual.projected)
        log_probs = evaluation.first_tokens()
        hits = int(before["hits"]) if before else evaluation.hits()
        spent = {"seconds": time.perf_counter() - begin, "tokens": tokens()}
    if not hits:
        raise InputError("the unedited model refuses none of the harmful prompts; there is nothing to search for")
    if out and not before:
        out.write_text(json.dumps({"search": settings, "unedited": {"hits": hits, **spent}}) + "\n")
    done = read_trials(out, directions) if out else []
    space = search_space(len(directions))
    study = study_of(done, hits, space)
    with restored(model) as restore:
        for number in range(len(done), trials):
            study.sampler = sampler_of(number, trials, seed)
            drawn = study.ask(space)
            restore()
            trial = measure(evaluation, number, drawn.params, directions, log_probs, usual.rank)
            study.tell(drawn, scores(trial.hits, trial.kl, hits))
            done.append(trial)
            if out:
                with out.open("a") as file:
                    file.write(json.dumps(trial.to_json()) + "\n")
            callback(trial)
    return done


def measure(
    evaluation: Evaluation,
    number: int,
    parameters: Mapping[str, Value],
    directions: Float[Tensor, "layers d_model"],
    before: Float[Tensor, "prompts vocab"],
    rank: int | None,
) -> Trial:
    """Edit the model, which is unedited, and return the trial."""
    begin = time.perf_counter()
    edit = edit_of(parameters, directions)
    with counted_tokens(evaluation.model) as tokens:
        apply_edit(evaluation.model, edit, rank)
        kl = float(kl_divergence(before, evaluation.first_tokens()).mean())
        hits = evaluation.hits()
        return Trial(number, dict(parameters), hits, kl, time.perf_counter() - begin, tokens(), edit)


def study_of(done: Sequence[Trial], hits: int, space: dict[str, BaseDistribution]) -> optuna.Study:
    """Return the study that knows the trials that are done."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "minimize"])
    for one in done:
        values = scores(one.hits, one.kl, hits)
        study.add_trial(
            optuna.trial.create_trial(params=dict(one.parameters), distributions=space, values=list(values))
        )
    return study


def unedited_in(out: Path, settings: Mapping[str, object]) -> dict[str, float] | None:
    """Return what `out` says of the unedited model, None where it does not begin yet; leave only whole lines in it.

    Raises InputError where it holds another search.
    """
    text = out.read_text() if out.exists() else ""
    whole = text[: text.rfind("\n") + 1]  # a killed run may have left half a line
    if not whole:
        return None
    header: dict[str, dict[str, float]] = json.loads(whole.splitlines()[0])
    if header.get("search") != settings:
        raise InputError(f"{out}: holds the trials of another search; give another file, or remove it")
    if whole != text:
        out.write_text(whole)
    return header["unedited"]


def defaults_in(path: Path) -> str:
    """Return the defaults by which the trials in a file were made; files from before they were told apart are of 1.2."""
    version: str = json.loads(path.read_text().splitlines()[0])["search"].get("defaults", "1.2")
    return version


def read_trials(path: Path, directions: Float[Tensor, "layers d_model"]) -> list[Trial]:
    """Return the trials in a file, ready to be applied again to the model that `directions` are of."""
    records = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    return [Trial(**record, edit=edit_of(record["parameters"], directions)) for record in records]


def pareto(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other beats or equals on one of refusals and KL and beats on the other, by refusals."""
    best: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (one.hits, one.kl, one.number)):
        if not best or trial.kl < best[-1].kl:
            best.append(trial)
    return best


def split_pool(prompts: Sequence[str], evaluation: int = EVALUATION) -> tuple[Sequence[str], Sequence[str]]:
    """Return those for the directions and those, the last `evaluation`, that measure the trials."""
    return prompts[: len(prompts) - evaluation][:DIRECTION], prompts[len(prompts) - evaluation :]


def pool_of(spec: str, most: int, ruler: bool) -> tuple[str, ...]:
    """Return the prompts of a list that the search may see, `most` of them."""
    whole = load_prompts(spec)
    sides = [whole.side("train"), whole.side("select")] if ruler else [whole]
    return tuple(prompt for side in sides for prompt in side.prompts)[:most]


def divided(harmful: str, harmless: str, evaluation: int, ruler: bool) -> list[Sequence[str]]:
    """Return what gives the directions, harmful and harmless, and what measures the trials, harmful and harmless."""
    sides = [
        split_pool(pool_of(spec, most, ruler), evaluation) for spec, most in ((harmful, HARMFUL), (harmless, HARMLESS))
    ]
    return [side[part] for part in (0, 1) for side in sides]


def digests(groups: Sequence[Sequence[str]]) -> list[str]:
    """Return what tells the prompts of two searches apart."""
    return [hashlib.sha256("\0".join(prompts).encode()).hexdigest() for prompts in groups]


def ruled_trials(path: Path, model: PreTrainedModel, chat: ChatFormat, harmful: str, harmless: str) -> list[Trial]:
    """Return the Pareto-optimal trials of a search with --ruler, ready to be applied to the model.

    Raises InputError where they were made of other lists, or saw the report prompts.
    """
    made: dict[str, Any] = json.loads(path.read_text().splitlines()[0])["search"]
    groups = divided(harmful, harmless, made["evaluation"], ruler=True)
    if made["prompts"] != digests(groups) or made["system"] != chat.system:
        raise InputError(f"{path}: its trials were not made with --ruler and these lists")
    projected = DEFAULTS[defaults_in(path)].projected
    return pareto(read_trials(path, leader_directions(model, chat, groups[0], groups[1], projected=projected)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("harmful")
    parser.add_argument("harmless")
    parser.add_argument("--ruler", action="store_true", help="leave out the report split of the lists, for ranks.py")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--reply-tokens", type=int, default=REPLY_TOKENS)
    parser.add_argument("--fast-replies", action="store_true")
    parser.add_argument("--batch-size", type=int, default=32, help="prompts at once, without --fast-replies")
    parser.add_argument("--evaluation", type=int, default=EVALUATION, help="prompts a side that measure the trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--defaults", choices=tuple(DEFAULTS), default="1.3", help="of which version")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    source = resolve(str(options.model))
    tokenizer = load_tokenizer(source)
    groups = divided(options.harmful, options.harmless, options.evaluation, options.ruler)
    trials = leader_search(
        load_model(source, options.dtype),
        tokenizer,
        ChatFormat(tokenizer, None if options.ruler else SYSTEM),
        *groups,
        options.trials,
        options.reply_tokens,
        options.seed,
        lambda one: print(
            f"  trial {one.number}: {one.hits} hits, KL {one.kl:.4f}, {one.seconds:.1f} s", file=sys.stderr
        ),
        fast_replies=options.fast_replies,
        batch_size=options.batch_size,
        out=options.out,
        defaults=options.defaults,
    )
    report(
        f"{options.model.name}, {len(trials)} trials by the defaults of {options.defaults}, replies of {options.reply_tokens} tokens",
        trials,
    )


def report(title: str, trials: Sequence[Trial]) -> None:
    """Print the table of the Pareto-optimal trials; a kernel is its largest and least weight, its middle and its reach."""
    table = Table(title=title)
    for column in ("trial", "refusals", "KL", "direction", *COMPONENTS, "s", "tokens"):
        table.add_column(column, justify="right")
    for one in pareto(trials):
        place = f"at {one.parameters['direction_index']:.1f}"
        kernels = []
        for component in COMPONENTS:
            largest, position, share, reach = (
                float(one.parameters[f"{component}.{name}"])
                for name in ("max_weight", "max_weight_position", "min_weight", "min_weight_distance")
            )
            kernels.append(f"{largest:.2f}..{share * largest:.2f}, {position:.1f} ± {reach:.1f}")
        own = place if one.parameters["direction_scope"] == "global" else "per layer"
        table.add_row(
            str(one.number), str(one.hits), f"{one.kl:.4f}", own, *kernels, f"{one.seconds:.1f}", str(one.tokens)
        )
    Console().print(table)


if __name__ == "__main__":
    main()
