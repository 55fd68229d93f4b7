"""The automatic choice for a model that shall refuse more: where the difference in means is added, and how often.

Places are ranked by the induce score of Arditi et al. 2024, arXiv 2406.11717, appendix C, alone: the refusal score of
harmless prompts. KL cannot stay small where these come to be refused, and what an ablation would do does not matter. That
score looks at one token, but the vector is added at every one, those of the reply too: too much of it ends all sense. So
the best places are tried at several strengths, and judged by whole replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from abliterate.directions.candidates import DEEPEST, Candidate, Selection, candidate_places
from abliterate.directions.directions import Directions
from abliterate.directions.scores import OpeningBatch, final_states, prepare_openings, refusal_score
from abliterate.directions.selection import INDUCE_PROMPTS, candidates_at_once, under_prompts
from abliterate.interventions import added, added_rows
from abliterate.models.generation import REPLY_TOKENS, generate
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.replies.coherence import is_incoherent
from abliterate.replies.openings import Opening
from abliterate.replies.refusals import is_refusal
from abliterate.storage.record_log import RecordLog, once

FINALISTS = 3
"""Places that are tried by replies."""

TRIED_STRENGTHS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""How many times the difference is added: about 1.4 times as often from one to the next."""

CONFIRMING = 24
"""Prompts a side, at most, that the replies are to."""


def select_inducing(
    live: LiveModel,
    directions: Directions,
    openings: Sequence[Opening],
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    kept: RecordLog | None = None,
) -> Selection:
    """Choose among `layers` (those of the first 80%, if there are such) the place whose difference induces most.

    `harmful` and `harmless` are the select split's token ids; `kept` holds the scores that an interrupted run has left. Ties go to the earlier layer, then the later position.
    Raises InputError when the prompts differ at none of these layers. `try_strengths` goes on from here.
    """
    model, architecture, batch_size = live.model, live.architecture, live.batch_size
    deepest = int(DEEPEST * architecture.depth)
    places = candidate_places(directions, [layer for layer in layers if layer < deepest] or layers)
    few = harmless[:INDUCE_PROMPTS]
    group = candidates_at_once(model, few)
    head, opening_batch = Head(model), prepare_openings(model, few, openings, batch_size, copies=group)
    kept = under_prompts(kept, live, directions, openings, harmful, harmless)

    def unedited(one: OpeningBatch) -> float:
        return float(refusal_score(head, one, final_states(model, one)).mean())

    def induce(part: Sequence[tuple[int, int]]) -> list[float]:
        vectors = torch.stack([directions.difference(layer, position) for layer, position in part])
        with added_rows(model, vectors, [layer for layer, _ in part], architecture):
            scores = refusal_score(head, opening_batch, final_states(model, opening_batch, len(part))).mean(1)
        return [float(score) for score in scores]

    harmful_score = once(kept, "harmful", lambda: unedited(prepare_openings(model, harmful, openings, batch_size)))
    harmless_score = once(kept, "harmless", lambda: unedited(opening_batch))
    found: list[Candidate] = []
    with live.progress.step("induce of every candidate", len(places), "directions") as advance:
        for start in range(0, len(places), group):
            part = places[start : start + group]
            scores = once(kept, ["induce", part], partial(induce, part))
            found += [Candidate(*place, induce=score) for place, score in zip(part, scores, strict=True)]
            advance(len(part))
    found.sort(key=lambda one: (-(one.induce or 0.0), one.layer, -one.position))
    return Selection(found[0], tuple(found), harmful_score, harmless_score, None)


@dataclass(frozen=True)
class Trial:
    """One place at one strength: how many of the select split's replies refuse and make sense, of how many."""

    layer: int
    position: int
    strength: float
    refused: int
    prompts: int


def try_strengths(
    live: LiveModel,
    directions: Directions,
    selection: Selection,
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    strengths: Sequence[float] = TRIED_STRENGTHS,
    *,
    kept: RecordLog | None = None,
) -> tuple[Trial, ...]:
    """Try the best places at every strength by replies to both sides' prompts; return the trials, the best first.

    Ties go to the lower strength, then the better place. `kept` holds the replies that an interrupted run has left.
    """
    model, tokenizer = live.model, live.tokenizer
    asked = [*harmful[:CONFIRMING], *harmless[:CONFIRMING]]
    trials: list[Trial] = []
    finalists = selection.candidates[:FINALISTS]
    with live.progress.step("replies under the best", len(finalists) * len(strengths), "strengths") as advance:
        for one in finalists:
            vector, most = directions.difference(one.layer, one.position), 0
            for number, strength in enumerate(strengths):
                own = (
                    kept.under("trial", directions.digest, one.layer, one.position, strength)
                    if kept is not None
                    else None
                )
                with added(model, vector, one.layer, live.architecture, scale=strength):
                    replies = generate(
                        model,
                        tokenizer,
                        asked,
                        REPLY_TOKENS,
                        batch_size=live.batch_size,
                        decoding=live.decoding,
                        kept=own,
                    )
                texts = tokenizer.batch_decode(replies)
                refused = sum(is_refusal(text) and not is_incoherent(text) for text in texts)
                trials.append(Trial(one.layer, one.position, strength, refused, len(texts)))
                advance(1)
                most = max(most, refused)
                if refused < most / 2:  # more of it would end the rest of the sense
                    advance(len(strengths) - number - 1)
                    break
    return tuple(sorted(trials, key=lambda one: (-one.refused, abs(one.strength))))
