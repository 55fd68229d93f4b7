"""How far two labellers agree beyond chance: Cohen's kappa (Cohen 1960), with a bootstrap interval over replies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from abliterate.evaluation.statistics import json_number
from abliterate.studies.common import RESAMPLES

Pair = tuple[str, str]


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa of so many segments, with its 95% interval; NaN where both have one label alone."""

    kappa: float
    low: float
    high: float
    segments: int
    table: tuple[tuple[str, str, int], ...]
    """How often the first labeller says the one and the second the other."""

    def to_json(self) -> dict[str, object]:
        """Return all of it."""
        return {
            "kappa": json_number(self.kappa), "low": json_number(self.low), "high": json_number(self.high),
            "segments": self.segments, "table": [list(row) for row in self.table],
        }  # fmt: skip


def kappa_of(pairs: Sequence[Pair]) -> float:
    """Return Cohen's kappa of pairs of labels; NaN where chance alone agrees always, or of nothing.

    Examples:
        >>> kappa_of([("a", "a"), ("b", "b"), ("a", "b"), ("b", "b")])
        0.5
    """
    if not pairs:
        return math.nan
    first, second = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    agreed = sum(one == two for one, two in pairs) / len(pairs)
    chance = sum(first[label] * second[label] for label in first) / len(pairs) ** 2
    return (agreed - chance) / (1 - chance) if chance < 1 else math.nan


def agreement_of(replies: Sequence[Sequence[Pair]], resamples: int = RESAMPLES, seed: int = 0) -> Agreement:
    """Return how far two labellers agree on the segments of replies, which are drawn as wholes for the interval."""
    pairs = [pair for reply in replies for pair in reply]
    rng = numpy.random.default_rng([seed, 6])
    drawn = [
        kappa_of([pair for place in rng.integers(len(replies), size=len(replies)) for pair in replies[place]])
        for _ in range(resamples if pairs else 0)
    ]
    finite = [one for one in drawn if math.isfinite(one)]
    low, high = map(float, numpy.percentile(finite, (2.5, 97.5))) if finite else (math.nan, math.nan)
    table = tuple((*pair, count) for pair, count in sorted(Counter(pairs).items()))
    return Agreement(kappa_of(pairs), low, high, len(pairs), table)
