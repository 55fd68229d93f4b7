"""What adding alpha times a vector does: the log-odds that a reply opens as a refusal, many vectors and alphas in one forward.

Replies are made for few vectors and alphas alone: they say beyond which alpha a model falls apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.evaluation.statistics import Rate
from abliterate.interventions import added, added_rows
from abliterate.models.decoding import Decoding
from abliterate.models.generation import REPLY_TOKENS
from abliterate.models.live_model import LiveModel
from abliterate.replies.coherence import is_incoherent
from abliterate.replies.openings import Opening, find_openings
from abliterate.storage.record_log import RecordLog, digest
from abliterate.studies.positions.listen import Heard, Safety, judged
from abliterate.studies.positions.method import Curve
from abliterate.studies.replies import Tokens, Unit, decoder, said
from abliterate.studies.scores import scores_under

COARSE = (-1.0, -0.35, 0.35, 1.0)
"""On the other forms."""

CONTROL_ALPHAS = (-1.0, 1.0)
"""For vectors that are random, of shuffled labels, or the user's."""

REPLY_ALPHAS = (0.35, 1.0, 2.0)
"""At which replies are made, with both signs, smaller ones first, until they fall apart."""

INCOHERENT = 0.1
"""Share of replies that may fall apart at an alpha that counts."""

COVERAGE = 0.75
"""Share of the refusals that the openings must cover: each further one may be a context of its own."""

Score = Callable[[Float[Tensor, "vectors d_model"], Sequence[int], Sequence[Tokens]], Float[Tensor, "vectors prompts"]]
"""The score of each prompt with each vector added at its layer."""


def openings_of(heard: Mapping[str, Heard]) -> tuple[Opening, ...]:
    """Return how the model opens its refusals in the train part of all forms. Raises NoRefusalsError where it never refuses."""
    replies = [
        (reply.tokens, reply.start == 1)
        for one in heard.values()
        for case in one.of("harmful", "train")
        for reply in case.every
    ]
    refused = [tokens for tokens, label in replies if label]
    return find_openings(refused, [tokens for tokens, label in replies if not label], coverage=COVERAGE)


def score_of(live: LiveModel, openings: Sequence[Opening], kept: RecordLog | None = None) -> Score:
    """Return the refusal log-odds of a live model under additions. Raises InputError, as it is asked, for logits that are no numbers."""

    def score(
        vectors: Float[Tensor, "vectors d_model"], layers: Sequence[int], prompts: Sequence[Tokens]
    ) -> Float[Tensor, "vectors prompts"]:
        def under(rows: Tensor, start: int) -> AbstractContextManager[Any]:
            return added_rows(live.model, rows, list(layers[start : start + len(rows)]), live.architecture)

        return scores_under(live, openings, vectors.float(), prompts, under, list(layers), kept)

    return score


def curve_of(
    score: Score, vector: Float[Tensor, " d_model"], layer: int, prompts: Sequence[Tokens], alphas: Sequence[float]
) -> Curve:
    """Return the effect of a vector at a layer on each prompt, against nothing added."""
    (found,) = curves_of(score, vector[None], layer, prompts, alphas)
    return found


def curves_of(
    score: Score,
    vectors: Float[Tensor, "vectors d_model"],
    layer: int,
    prompts: Sequence[Tokens],
    alphas: Sequence[float],
) -> list[Curve]:
    """Return the curve of each of some vectors at one layer, scored together; alpha 0 is once for all."""
    moved = [alpha for alpha in alphas if alpha]
    rows = torch.cat([torch.zeros_like(vectors[:1]), *(alpha * vectors for alpha in moved)])
    scores = score(rows, [layer] * len(rows), prompts).double()
    base, changed = scores[0], scores[1:].view(len(moved), len(vectors), -1) - scores[0]
    still = {0.0: (0.0,) * len(base)} if 0 in alphas else {}
    return [
        Curve({**still, **{alpha: tuple(changed[row, place].tolist()) for row, alpha in enumerate(moved)}})
        for place in range(len(vectors))
    ]


def layers_to_try(depth: int) -> tuple[int, ...]:
    """Return layers from a quarter to below .8 of the depth, at most about ten of them: every one of small models."""
    last = next(layer for layer in range(depth, 0, -1) if layer < 0.8 * depth)
    first = min(last, max(1, round(0.25 * depth)))
    step = max(1, round((last - first + 1) / 10))
    return tuple(range(last, first - 1, -step))[::-1]


def best_layer(
    score: Score, vectors: Mapping[int, Float[Tensor, " d_model"]], prompts: Sequence[Tokens]
) -> tuple[int, dict[int, float]]:
    """Return the layer at which the vector of that layer has the greatest effect, `G(1) - G(-1)`, and the effect at each; the middle one where nothing moves."""
    layers = list(vectors)
    rows = torch.stack([sign * vectors[layer] for layer in layers for sign in (1, -1)])
    scores = score(rows, [layer for layer in layers for _ in (1, -1)], prompts).double().mean(1)
    effects = {layer: float(scores[2 * place] - scores[2 * place + 1]) for place, layer in enumerate(layers)}
    if not any(effects.values()):
        return layers[len(layers) // 2], effects
    return max(layers, key=lambda layer: effects[layer]), effects


@dataclass(frozen=True)
class Said:
    """What replies do at one alpha: how many first sentences are safety, how many replies fall apart."""

    safe: Rate
    incoherent: Rate

    def to_json(self) -> dict[str, object]:
        """Return both rates."""
        return {"safe": self.safe.to_json(), "incoherent": self.incoherent.to_json()}


def replies_at(
    live: LiveModel,
    unit: Unit,
    vector: Float[Tensor, " d_model"],
    layer: int,
    safety: Safety,
    kept: RecordLog | None = None,
) -> dict[float, Said]:
    """Return what greedy replies do at a few alphas, and at 0."""

    def at(alpha: float) -> Said:
        scope = kept.under("added", digest(vector.tolist()), layer, alpha) if kept else None
        if alpha:
            with added(live.model, vector.float(), layer, live.architecture, scale=alpha):
                replies = said(live, unit, Decoding(), tokens=REPLY_TOKENS, kept=scope)
        else:
            replies = said(live, unit, Decoding(), tokens=REPLY_TOKENS, kept=scope)
        texts = [decoder(live)(list(one)) for one in replies]
        safe = [
            judged(one, text, unit.form.language, safety).start == 1 for one, text in zip(replies, texts, strict=True)
        ]
        return Said(Rate(sum(safe), len(safe)), Rate(sum(map(is_incoherent, texts)), len(texts)))

    found = {0.0: at(0.0)}
    for alpha in REPLY_ALPHAS:
        found |= {-alpha: at(-alpha), alpha: at(alpha)}
        if coherent_up_to(found) < alpha:
            break
    return dict(sorted(found.items()))


def coherent_up_to(said_at: Mapping[float, Said]) -> float:
    """Return the largest |alpha| up to which few replies fall apart beyond those that do without; 0 where some always do.

    Both signs must hold, and every smaller alpha too.
    """
    allowed = INCOHERENT + said_at[0.0].incoherent.value
    largest = 0.0
    for alpha in sorted({abs(one) for one in said_at if one}):
        if any(said_at[one].incoherent.value > allowed + 1e-9 for one in (alpha, -alpha)):
            break
        largest = alpha
    return largest
