"""The last edits of a search: between one within the limit of divergence and others beyond it, as near to the limit as it goes.

Stages leave gaps: of two edits next to each other on a front one may lie far within the limit and leave refusals, the other beyond it.
All edits of a search have grown out of one start. So, as between weights before and after fine-tuning (Wortsman et al. 2021,
arXiv 2109.01903), both figures change little by little on the line between two of them, and a few forward passes find the place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from abliterate.search.front import Front, Point
from abliterate.search.variables import Variables

CLOSING = 3
"""Edits between two that a search ends with, at most: no more once nothing is refused within the limit."""

AIM = (0.7, 0.75)
"""From which share of the limit to which an edit between two shall lie: other prompts say another figure than those of the select split.
On Qwen2.5-0.5B an edit of .0196 there cost .0249 on prompts of another source (docs/benchmarks.md)."""

HALVINGS = 6
"""Places on the line that are tried, at most."""


@dataclass(frozen=True)
class Gap:
    """The best edit within the limit, None for no edit at all, and one beyond it that leaves fewer refusals."""

    within: Point | None
    beyond: Point

    def edit(self, share: float) -> Variables:
        """Return the edit at a share of the way: 0 is the one within, 1 the one beyond. Of no edit, all strengths are 0."""
        found = self.beyond.edit.copy()
        with torch.no_grad():
            for number, one in enumerate(found.tensors()):
                last = number == len(found.strengths)  # the direction, which no edit has
                start = self.within.edit.tensors()[number] if self.within else one if last else torch.zeros_like(one)
                one.copy_(torch.lerp(start, one, share))
        found.bound()
        return found

    def pressure(self, share: float) -> float | None:
        """Return the weight of refusals that stands for it: between those of both, by their logarithms; None where neither has one."""
        weights = [one.refusal_weight for one in (self.within, self.beyond) if one and one.refusal_weight]
        return weights[0] ** (1 - share) * weights[-1] ** share if weights else None


def gaps(front: Front, limit: float) -> list[Gap]:
    """Return the ways from the best edit within the limit to those beyond it that leave fewer refusals, the nearest first.

    There are none where the best is near enough.
    """
    points = front.keeping()
    within = min((one for one in points if one.kl <= limit), key=lambda one: (one.refusals, one.kl), default=None)
    if within and within.kl >= AIM[0] * limit:
        return []
    left = within.refusals if within else front.original.refusals
    beyond = (one for one in points if one.kl > limit and one.refusals < left)
    return [Gap(within, one) for one in sorted(beyond, key=lambda one: one.kl)]


def nearest(
    gap: Gap, limit: float, divergence: Callable[[Variables], float], advance: Callable[[int], None] = lambda _: None
) -> float:
    """Return the share of the way at which the divergence is what is aimed at, by halving; never more than that, 0 for none.

    `advance` hears of each place that was tried.
    """
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        value = divergence(gap.edit(share))
        advance(1)
        if value > AIM[1] * limit:
            high = share
            continue
        low = share
        if value >= AIM[0] * limit:
            break
    return low
