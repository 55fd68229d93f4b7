"""Where a search begins: every candidate by attribution, exact scores for the best dozen.

A search turns the direction and the strengths itself, and needs a good start, not the best: so nothing is asked of induce,
and of the divergence only among the finalists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from abliterate.directions.attribution import attributed_bypass
from abliterate.directions.candidates import DEEPEST, Candidate, Selection, candidate_places
from abliterate.directions.directions import Directions
from abliterate.directions.selection import scorer_of
from abliterate.models.live_model import LiveModel
from abliterate.replies.openings import Opening
from abliterate.storage.record_log import RecordLog, once

FINALISTS = 12
"""Candidates that are scored exactly (`benchmarks/attribution.py` says what that gives up)..."""

PROMPTS = 16
"""...on so many prompts a side: the search goes on from there, and its points are judged on all."""


def select_start(
    live: LiveModel,
    directions: Directions,
    openings: Sequence[Opening],
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    *,
    kept: RecordLog | None = None,
) -> Selection:
    """Choose the finalist with the least bypass that does no more damage than the rule allows, else the one that does least.

    Looked at are the first `PROMPTS` of each side. The arguments are those of `selection.select`. The model must not stream from the disk. Raises InputError where the prompts
    differ at no candidate, and for logits that are NaN or infinite.
    """
    harmful, harmless = harmful[:PROMPTS], harmless[:PROMPTS]
    scorer = scorer_of(live, directions, openings, harmful, harmless, kept)
    places = candidate_places(directions, range(int(DEEPEST * live.architecture.depth)))
    rows = torch.stack([directions.at(layer, position) for layer, position in places])
    estimates = once(scorer.kept, ["attribution", places], lambda: attributed_bypass(live, rows, harmful, openings))
    order = sorted(range(len(places)), key=estimates.__getitem__)
    ranked = [Candidate(*places[place], estimate=estimates[place]) for place in order]
    finalists = [(one.layer, one.position) for one in ranked[:FINALISTS]]
    found = []
    with live.progress.step("exact scores of the finalists", len(finalists), "directions") as advance:
        for start in range(0, len(finalists), scorer.at_once):
            part = finalists[start : start + scorer.at_once]
            scores = zip(scorer.bypass(scorer.harmful, part), scorer.divergences(part), strict=True)
            found += [
                replace(one, bypass=bypass, kl=kl)
                for one, (bypass, kl) in zip(ranked[start : start + len(part)], scores, strict=True)
            ]
            advance(len(part))
    exact = sorted(found, key=lambda one: one.order)
    allowed = [one for one in exact if one.allowed(None)]
    chosen = allowed[0] if allowed else min(exact, key=lambda one: math.inf if one.kl is None else one.kl)
    unedited = [scorer.unedited(*one) for one in (("harmful", scorer.harmful), ("harmless", scorer.harmless))]
    return Selection(chosen, (*exact, *ranked[FINALISTS:]), unedited[0], unedited[1], None, PROMPTS)
