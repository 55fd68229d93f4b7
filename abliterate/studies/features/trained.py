"""From a live model and a corpus to an SAE of one layer, and how well it describes texts that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.prompt_set import side_of
from abliterate.storage.own_files import own_folder
from abliterate.studies.common import Verdict
from abliterate.studies.features.autoencoder import SparseAutoencoder
from abliterate.studies.features.corpus import Corpus
from abliterate.studies.features.quality import Quality, quality_of
from abliterate.studies.features.tokens import Span, capture_tokens
from abliterate.studies.features.train import Plan, seconds_of, train

SCORED = 24
"""Held-out texts whose cross-entropy is measured."""


@dataclass(frozen=True)
class Trained:
    """The SAE, the plan by which it was learned, from how many tokens, and its figures."""

    sae: SparseAutoencoder
    plan: Plan
    layer: int
    tokens: int
    held_out: int
    quality: Quality
    notes: tuple[str, ...] = ()


def train_on(
    live: LiveModel, name: str, corpus: Corpus, layer: int, plan: Plan, tokens: int, folder: Path | None = None
) -> Trained:
    """Train on the train side of a corpus, at most so many tokens, and measure on its report side.

    The template's tokens take part once. `folder` keeps states (a file that is mapped into memory) and what an interrupted
    training has left. Raises InputError for a layer that is not there, and for too few tokens.
    """
    if not 0 < layer < live.architecture.depth:
        raise InputError(
            f"--layer {layer} is out of range; an SAE is of resid[1] to resid[{live.architecture.depth - 1}]"
        )
    inside = corpus.part("train").passages
    spans = within([inside[0].whole, *(one.span for one in inside[1:])], tokens)
    found = sum(len(one.places) for one in spans)
    plan.check(found)
    held_out = [one.span for one in corpus.part("report").passages]
    file = None if folder is None else own_folder(folder) / "states"
    states = capture_tokens(live, spans, layer, file).states
    unseen = capture_tokens(live, held_out, layer).states
    sae = train(states, plan, folder, live.progress, layer=layer, model=name)
    quality = quality_of(live, sae, layer, states, unseen, held_out[:SCORED])
    sae = replace(sae, about={**sae.about, "fvu": quality.fvu, "alive": quality.alive})
    short = f"the corpus has {found} tokens on its train side, of {tokens} that were allowed"
    return Trained(sae, plan, layer, found, len(unseen), quality, (short,) if found < tokens else ())


def budget(live: LiveModel, prompts: Sequence[str], plan: Plan, tokens: int, reply_tokens: int) -> str:
    """Return before anything is captured what a training will work on and how long it takes, in a line.

    Raises InputError as `seconds_of`, where even replies of full length would give too few tokens.
    """
    train = [prompt for prompt in prompts if side_of(prompt) == "train"]
    words = live.tokenizer(train, add_special_tokens=False)["input_ids"]
    most = min(tokens, sum(len(one) + reply_tokens for one in words))
    seconds = seconds_of(plan, live.architecture.d_model, most)
    return f"at most {most} tokens of {len(train)} prompts, {plan.steps(most)} steps, about {seconds / 60:.1f} minutes of training"


def within(spans: list[Span], tokens: int) -> list[Span]:
    """Return the first spans that have so many tokens together, the last of them cut."""
    kept: list[Span] = []
    left = tokens
    for span in spans:
        if left <= 0:
            break
        kept.append(replace(span, places=span.places[:left]))
        left -= len(span.places)
    return kept


def settings_of(found: Trained, corpus: Corpus) -> dict[str, Any]:
    """Return what was asked."""
    plan = found.plan
    return {
        "layer": found.layer, "features": plan.features, "active": plan.active, "epochs": plan.epochs, "batch": plan.batch,
        "tokens": found.tokens, "held_out": found.held_out, "corpus": list(corpus.public), "texts": len(corpus),
    }  # fmt: skip


def results_of(found: Trained) -> dict[str, Any]:
    """Return the figures."""
    return {
        "kind": "train",
        "quality": found.quality.to_json(),
        "unit": found.sae.about["unit"],
        "steps": found.sae.about["steps"],
    }


def controls_of(found: Trained) -> dict[str, Any]:
    """Return what as many principal components leave, and what the mean in the place of states costs."""
    return {"fvu_pca": found.quality.pca, "loss_of_mean": found.quality.loss["mean"].to_json()}


def verdicts_of(found: Trained) -> list[Verdict]:
    """Return whether the SAE describes unseen texts better than as many principal components."""
    one = found.quality
    return [
        Verdict(
            "the SAE describes unseen texts better than as many principal components",
            f"FVU {one.fvu:.3f} with {one.active:.1f} active, {one.alive:.0%} alive",
            f"{found.sae.active} components {one.pca:.3f}",
            "shown" if one.fvu < one.pca else "not shown",
            f"On {found.held_out} tokens of prompts held out, {one.fvu:.3f} of the variance is left over, by principal components "
            f"{one.pca:.3f}; with the description in the place of states the model keeps {one.recovered:.0%} of what the mean costs it.",
        )
    ]
