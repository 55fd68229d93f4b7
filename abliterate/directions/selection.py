"""The automatic choice of layer and position: bypass, induce and KL of every candidate, then one rule.

Arditi et al. 2024, arXiv 2406.11717, section 2.3 and appendix C: least bypass score among the candidates with
`induce > 0`, `KL < 0.1` and `l < 0.8 L`. All candidates start in one race on bypass; KL and induce are then
computed in the order of bypass, until the rule can no longer choose another.

Adding the difference in means carries harmless prompts to where harmful ones are. In a model whose harmful
prompts score below 0 themselves (it refuses fewer than it answers), 0 cannot be reached: there, induce is asked
to come half-way from the harmless to the harmful score. The selection records which floor was used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.directions.candidates import (
    DEEPEST,
    MAX_KL,
    Candidate,
    Selection,
    candidate_places,
    choose,
    induce_floor,
)
from abliterate.directions.directions import Directions
from abliterate.directions.scores import (
    OpeningBatch,
    final_states,
    first_token_divergences,
    first_token_log_probs,
    prepare_openings,
    refusal_score,
)
from abliterate.interventions import ablated_rows, added_rows
from abliterate.models.batches import token_budget
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.models.offload import rows_at_once
from abliterate.replies.openings import Opening
from abliterate.storage.record_log import RecordLog, once

CANDIDATE_ROWS = 96
"""Rows of a batch that candidates share out: as many candidates at once as this allows."""

FIRST_ROUND = 12
"""Harmful prompts that every candidate is tried on; the better third goes on to all of them."""

INDUCE_PROMPTS = 32
"""Harmless prompts for induce. KL takes all: a few borderline prompts carry most of it, so it needs many."""


CLEARLY = 2.0
"""So many times the limit, on the first few prompts, and a candidate's KL is not asked for on the others."""


@dataclass(frozen=True)
class CandidateScorer:
    """Scores candidates on the select split: everything that the three scores share.

    `at_once` is how many candidates KL and induce take together, `predict` makes the unedited model's predictions on
    the harmless prompts; `kept` are the scores that an interrupted run has left.
    """

    live: LiveModel
    directions: Directions
    head: Head
    harmful: OpeningBatch
    harmless: OpeningBatch
    first_few: OpeningBatch
    first_tokens: OpeningBatch
    predict: Callable[[], Float[Tensor, "prompts vocab"]]
    at_once: int
    kept: RecordLog | None = None

    @cached_property
    def original(self) -> Float[Tensor, "prompts vocab"]:
        """Return what the unedited model predicts on the harmless prompts, when the first KL asks for it."""
        return self.predict()

    def unedited(self, side: str, opening_batch: OpeningBatch) -> float:
        """Return the mean refusal score of the model as it is."""
        return once(
            self.kept,
            ["unedited", side],
            lambda: self.means(opening_batch, final_states(self.live.model, opening_batch))[0],
        )

    def bypass(self, opening_batch: OpeningBatch, places: Sequence[tuple[int, int]]) -> list[float]:
        """Return the mean refusal score of harmful prompts with each direction ablated."""

        def score() -> list[float]:
            with self.ablation(places):
                return self.means(opening_batch, final_states(self.live.model, opening_batch, len(places)))

        return once(self.kept, ["bypass", opening_batch.count, places], score)

    def means(
        self, opening_batch: OpeningBatch, states: Float[Tensor, "candidates rows positions d_model"]
    ) -> list[float]:
        """Return the mean refusal score over the prompts, candidate by candidate."""
        return [float(score) for score in refusal_score(self.head, opening_batch, states).mean(1)]

    def divergences(self, places: Sequence[tuple[int, int]]) -> list[float]:
        """Return the mean first-token KL on harmless prompts with each direction ablated.

        Where the first few prompts already put it far beyond the limit, theirs is returned.
        """
        found = self.divergence_on(self.first_few, places)
        near = [number for number, few in enumerate(found) if few <= CLEARLY * MAX_KL]
        if near:
            exact = self.divergence_on(self.first_tokens, [places[number] for number in near])
            for number, value in zip(near, exact, strict=True):
                found[number] = value
        return found

    def divergence_on(self, opening_batch: OpeningBatch, places: Sequence[tuple[int, int]]) -> list[float]:
        """Return the mean first-token KL on the prompts of one question with each direction ablated."""
        return once(self.kept, ["kl", opening_batch.count, places], lambda: self.divergence_now(opening_batch, places))

    def divergence_now(self, opening_batch: OpeningBatch, places: Sequence[tuple[int, int]]) -> list[float]:
        """Do `divergence_on`, whatever was kept."""
        original = self.original  # before the ablation, which would have a part in it
        with self.ablation(places):
            each = first_token_divergences(self.live.model, self.head, opening_batch, original, len(places))
        return [float(one) for one in each.mean(1)]

    def induce(self, places: Sequence[tuple[int, int]]) -> list[float]:
        """Return the mean refusal score of harmless prompts with each difference added at its own layer."""

        def score() -> list[float]:
            vectors = torch.stack([self.directions.difference(layer, position) for layer, position in places])
            with added_rows(self.live.model, vectors, [layer for layer, _ in places], self.live.architecture):
                return self.means(self.harmless, final_states(self.live.model, self.harmless, len(places)))

        return once(self.kept, ["induce", places], score)

    def ablation(self, places: Sequence[tuple[int, int]]) -> AbstractContextManager[None]:
        """Return the context in which run `i` of rows has direction `places[i]` ablated."""
        bases = torch.stack([self.directions.at(layer, position) for layer, position in places])
        return ablated_rows(self.live.model, bases[:, None], architecture=self.live.architecture)


def select(
    live: LiveModel,
    directions: Directions,
    openings: Sequence[Opening],
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    *,
    layer: int | None = None,
    ask_induce: bool = True,
    kept: RecordLog | None = None,
) -> Selection:
    """Choose layer and position on the select split's token ids; with `layer` given, the position only.

    `kept` holds the scores that an interrupted run on the same weights has left, and takes those that are made.
    `ask_induce=False` drops the condition on induce, for a model that hardly refuses and has little to induce.
    Raises InputError when the rule admits no candidate.
    """
    layers = range(int(DEEPEST * live.architecture.depth)) if layer is None else [layer]
    places = candidate_places(directions, layers)
    scorer = scorer_of(live, directions, openings, harmful, harmless, kept)
    ranked = successive_halving(scorer, places, harmful, openings)
    harmful_score, harmless_score = (
        scorer.unedited(*one) for one in (("harmful", scorer.harmful), ("harmless", scorer.harmless))
    )
    floor = induce_floor(harmful_score, harmless_score) if ask_induce else None
    if layer is not None:
        known = confirm(scorer, ranked, None)
        return Selection(of_layer(scorer, known), known, harmful_score, harmless_score, None)
    known = confirm(scorer, ranked, floor)
    return Selection(choose(known, live.architecture.depth, floor), known, harmful_score, harmless_score, floor)


def scorer_of(
    live: LiveModel,
    directions: Directions,
    openings: Sequence[Opening],
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    kept: RecordLog | None,
) -> CandidateScorer:
    """Return what scores candidates on these prompts; `kept` as in `select`."""
    model, batch_size = live.model, live.batch_size
    head = Head(model)
    few = harmless[:INDUCE_PROMPTS]
    at_once = candidates_at_once(model, harmless)
    return CandidateScorer(
        live,
        directions,
        head,
        prepare_openings(model, harmful, openings, batch_size, copies=candidates_at_once(model, harmful)),
        prepare_openings(model, few, openings, batch_size, copies=candidates_at_once(model, few)),
        prepare_openings(model, few, batch_size=batch_size, copies=at_once),
        prepare_openings(model, harmless, batch_size=batch_size, copies=at_once),
        lambda: first_token_log_probs(model, head, harmless, batch_size),
        at_once,
        under_prompts(kept, live, directions, openings, harmful, harmless),
    )


def under_prompts(
    kept: RecordLog | None,
    live: LiveModel,
    directions: Directions,
    openings: Sequence[Opening],
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
) -> RecordLog | None:
    """Return what is kept of scores under all that decides them besides the weights: also what cuts the batches."""
    if kept is None:
        return None
    return kept.under(
        "scores", directions.digest, openings, harmful, harmless, live.batch_size, token_budget(live.model)
    )


def candidates_at_once(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> int:
    """Return how many candidates share a batch on these prompts."""
    return max(1, rows_at_once(model, [*map(len, sequences)], CANDIDATE_ROWS) // len(sequences))


def successive_halving(
    scorer: CandidateScorer,
    places: Sequence[tuple[int, int]],
    harmful: Sequence[Sequence[int]],
    openings: Sequence[Opening],
) -> list[Candidate]:
    """Return all candidates, best bypass first: everyone on a few prompts, the better third on all."""
    model, progress = scorer.live.model, scorer.live.progress
    few = harmful[:FIRST_ROUND]
    group = candidates_at_once(model, few)
    opening_batch = prepare_openings(model, few, openings, scorer.live.batch_size, copies=group)
    candidates = []
    with progress.step("bypass of every candidate", len(places), "directions") as advance:
        for start in range(0, len(places), group):
            part = places[start : start + group]
            scores = scorer.bypass(opening_batch, part)
            candidates += [Candidate(*place, bypass) for place, bypass in zip(part, scores, strict=True)]
            advance(len(part))
    candidates.sort(key=lambda one: one.order)
    if len(harmful) <= len(few):
        return candidates
    better = candidates[: max(8, len(candidates) // 3)]
    group = candidates_at_once(model, harmful)
    finals = []
    with progress.step("bypass of the better third", len(better), "directions") as advance:
        for start in range(0, len(better), group):
            part_of = better[start : start + group]
            scores = scorer.bypass(scorer.harmful, [(one.layer, one.position) for one in part_of])
            finals += [replace(one, bypass=bypass) for one, bypass in zip(part_of, scores, strict=True)]
            advance(len(part_of))
    return sorted(finals, key=lambda one: one.order) + candidates[len(better) :]


def of_layer(scorer: CandidateScorer, known: Sequence[Candidate]) -> Candidate:
    """Return the position for a layer that the user wants: where all do too much damage, the one that does least."""
    for one in known:
        if one.allowed(None):
            return one
    least = min(known, key=lambda one: math.inf if one.kl is None else one.kl)
    # What is reported of the choice is measured on all prompts, however clear the first few were.
    return replace(least, kl=scorer.divergence_on(scorer.first_tokens, [(least.layer, least.position)])[0])


def confirm(scorer: CandidateScorer, ranked: Sequence[Candidate], floor: float | None) -> tuple[Candidate, ...]:
    """Compute KL and induce in the order of bypass until the first candidate that the rule admits; return all."""
    known: list[Candidate] = []
    with scorer.live.progress.step("induce and KL of the best", len(ranked), "directions") as advance:
        while len(known) < len(ranked) and not (known and known[-1].allowed(floor)):
            group = ranked[len(known) : len(known) + scorer.at_once]
            induced = scorer.induce([(one.layer, one.position) for one in group])
            asked = [replace(one, induce=score) for one, score in zip(group, induced, strict=True)]
            # KL costs most: only what the rest of the rule admits is asked for it.
            hopeful = [(one.layer, one.position) for one in asked if one.induces(floor)]
            kl = dict(zip(hopeful, scorer.divergences(hopeful) if hopeful else (), strict=True))
            for one in asked:
                known.append(replace(one, kl=kl.get((one.layer, one.position))))
                advance(1)
                if known[-1].allowed(floor):
                    break
        rest = ranked[len(known) :]
        advance(len(rest))
    return (*known, *rest)
