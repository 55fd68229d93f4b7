"""When replies enter a concept: the curve of those that have not yet, with intervals, and a test between two sets.

Replies that end before are censored: they are followed as far as they go. Kaplan & Meier 1958 (product-limit estimate),
Greenwood 1926 (its variance), the interval on the scale of log(-log S), as Kalbfleisch & Prentice 1980 have it, so that it
stays within 0 and 1; log-rank by permutation of the sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from abliterate.evaluation.statistics import Z95

PERMUTATIONS = 10_000
"""Random permutations of the log-rank test, seed 0."""


@dataclass(frozen=True)
class Onset:
    """What one reply shows: it enters the concept at the token of this index, or had not when it ended there."""

    token: int
    entered: bool

    def after(self, tokens: int) -> bool:
        """Return whether the reply enters the concept, and only after so many tokens."""
        return self.entered and self.token >= tokens


@dataclass(frozen=True)
class CurvePoint:
    """After reply token `token` a share `share` of the replies has not yet entered the concept, [low, high] at 95%.

    `entered` have entered at this token, of `at_risk` that were followed so far and had not.
    """

    token: int
    share: float
    low: float
    high: float
    entered: int
    at_risk: int


def curve_of(onsets: Sequence[Onset]) -> tuple[CurvePoint, ...]:
    """Return the Kaplan-Meier curve, a point for each token at which a reply enters; it is 1 before the first.

    Examples:
        >>> [round(point.share, 2) for point in curve_of([Onset(3, True), Onset(5, False), Onset(8, True)])]
        [0.67, 0.0]
    """
    points = []
    share, spread = 1.0, 0.0
    for token in sorted({one.token for one in onsets if one.entered}):
        at_risk = sum(one.token >= token for one in onsets)
        entered = sum(one.token == token and one.entered for one in onsets)
        share *= 1 - entered / at_risk
        if at_risk > entered:
            spread += entered / (at_risk * (at_risk - entered))
        points.append(CurvePoint(token, share, *interval(share, spread), entered, at_risk))
    return tuple(points)


def interval(share: float, spread: float) -> tuple[float, float]:
    """Return the 95% interval of a share by its Greenwood sum; where nobody is left, there is no width to be had."""
    if share <= 0:
        return 0.0, 0.0
    log = math.log(share)
    if log == 0:
        return 1.0, 1.0
    half = Z95 * math.sqrt(spread) / abs(log)
    return share ** math.exp(half), share ** math.exp(-half)


def share_entered(onsets: Sequence[Onset], token: int) -> float:
    """Return the share of replies that have entered the concept by a token, itself included."""
    shares = [point.share for point in curve_of(onsets) if point.token <= token]
    return 1 - shares[-1] if shares else 0.0


def log_rank(first: Sequence[Onset], second: Sequence[Onset]) -> float:
    """Return the log-rank statistic: entries of the first set beyond those that a common curve expects, squared over its variance."""
    tokens = numpy.array([one.token for one in (*first, *second)])
    entered = numpy.array([one.entered for one in (*first, *second)])
    return float(statistics(tokens, entered, numpy.arange(len(tokens))[None] < len(first))[0])


def log_rank_p(first: Sequence[Onset], second: Sequence[Onset], permutations: int = PERMUTATIONS) -> float:
    """Return the p-value of the log-rank statistic under permutations of who belongs to which set, seed 0.

    Raises ValueError where a set is empty.
    """
    if not first or not second:
        raise ValueError("the onsets of both sets are needed")
    tokens = numpy.array([one.token for one in (*first, *second)])
    entered = numpy.array([one.entered for one in (*first, *second)])
    rng = numpy.random.default_rng(0)
    own = numpy.arange(len(tokens)) < len(first)
    drawn = rng.permuted(numpy.broadcast_to(own, (permutations, len(own))), axis=1)
    observed = statistics(tokens, entered, own[None])[0] * (
        1 - 1e-9
    )  # a sum in another order must not fall below itself
    # The observed assignment is one of those that could have been (Phipson & Smyth 2010).
    return float((1 + (statistics(tokens, entered, drawn) >= observed).sum()) / (1 + permutations))


def statistics(tokens: numpy.ndarray, entered: numpy.ndarray, members: numpy.ndarray) -> numpy.ndarray:
    """Return the log-rank statistic of each row of `members` [draws, replies], true for who belongs to the first set."""
    excess = numpy.zeros(len(members))
    variance = numpy.zeros(len(members))
    for token in numpy.unique(tokens[entered]):
        at_risk, here = tokens >= token, (tokens == token) & entered
        risk, entries = at_risk.sum(), here.sum()
        own = members[:, at_risk].sum(1) / risk
        excess += members[:, here].sum(1) - entries * own
        if risk > 1:
            variance += entries * own * (1 - own) * (risk - entries) / (risk - 1)
    return numpy.divide(excess**2, variance, out=numpy.zeros_like(excess), where=variance > 0)
