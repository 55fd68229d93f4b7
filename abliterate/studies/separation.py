"""How well one number parts two sides: the area under the curve with its interval, and the threshold that splits best."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy

from abliterate.studies.common import Numbers


def auroc(positive: Sequence[float] | Numbers, negative: Sequence[float] | Numbers) -> float:
    """Return the share of pairs in which the positive one is higher, ties counting half; NaN where a side is empty."""
    first, second = (numpy.asarray(one, dtype=numpy.float64) for one in (positive, negative))
    if not len(first) or not len(second):
        return math.nan
    return float(((first[:, None] > second).mean() + (first[:, None] >= second).mean()) / 2)


def auroc_interval(
    positive: Sequence[float], negative: Sequence[float], resamples: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the AUROC, both sides resampled."""
    rng = numpy.random.default_rng([seed, 6])
    first, second = (numpy.asarray(one, dtype=numpy.float64) for one in (positive, negative))
    drawn = [auroc(rng.choice(first, len(first)), rng.choice(second, len(second))) for _ in range(resamples)]
    low, high = numpy.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def best_threshold(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the value that splits the sides with the fewest mistakes, each side counted by its share; the lowest such."""
    candidates = sorted({*positive, *negative})

    def right(threshold: float) -> float:
        high = sum(one >= threshold for one in positive) / len(positive)
        return high + sum(one < threshold for one in negative) / len(negative)

    return max(candidates, key=lambda threshold: (right(threshold), -threshold))
