"""Before and after on the same prompts: tests that use the pairing, which two intervals side by side do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from abliterate.evaluation.statistics import Mean, json_number, mean_of

FLIPS = 10_000
"""Random sign flips of the permutation test, seed 0; with fewer than 2**13 possible ones all of them are counted."""

EXACT_PAIRS = 13
"""Pairs that differ, up to which every assignment of signs is counted."""


@dataclass(frozen=True)
class Changed:
    """How many prompts gained and lost a property, and McNemar's exact test that the edit moves neither way."""

    gained: int
    lost: int

    @property
    def p(self) -> float:
        """Return the two-sided p-value: the binomial test on the prompts that changed (McNemar 1947, exact form)."""
        changed = self.gained + self.lost
        tail: int = sum(math.comb(changed, k) for k in range(min(self.gained, self.lost) + 1))
        return min(1.0, float(2 * tail / 2**changed))

    def to_json(self) -> dict[str, object]:
        """Return counts, p-value and the name of the test."""
        return {"gained": self.gained, "lost": self.lost, "p": self.p, "test": "McNemar, exact"}


@dataclass(frozen=True)
class PairedDifference:
    """The mean of paired differences, its bootstrap interval, and a sign-flip permutation test that it is zero."""

    mean: Mean

    @property
    def p(self) -> float:
        """Return the two-sided p-value: under no effect each difference is as likely to have the other sign."""
        values = numpy.asarray([value for value in self.mean.values if value])
        if not len(values):
            return 1.0
        observed = abs(values.sum()) * (1 - 1e-9)  # a sum in another order must not fall below itself
        if len(values) <= EXACT_PAIRS:
            signs = 1 - 2 * ((numpy.arange(2 ** len(values))[:, None] >> numpy.arange(len(values))) & 1)
            return float((abs(signs @ values) >= observed).mean())
        signs = numpy.random.default_rng(0).choice((-1.0, 1.0), (FLIPS, len(values)))
        # The observed assignment is one of those that could have been (Phipson & Smyth 2010).
        return float((1 + (abs(signs @ values) >= observed).sum()) / (1 + FLIPS))

    def to_json(self) -> dict[str, object]:
        """Return mean, interval, p-value and the name of the test."""
        low, high = self.mean.interval
        value = json_number(self.mean.value)
        return {"value": value, "low": json_number(low), "high": json_number(high), "p": self.p, "test": "sign flips"}


def paired_changes(before: Sequence[bool], after: Sequence[bool]) -> Changed:
    """Compare a property of the same prompts before and after. Raises ValueError for lists of different length."""
    pairs = list(zip(before, after, strict=True))
    return Changed(sum(new and not old for old, new in pairs), sum(old and not new for old, new in pairs))


def paired_difference(before: Sequence[float], after: Sequence[float]) -> PairedDifference:
    """Return `after - before`, pair by pair. Raises ValueError for lists of different length."""
    return PairedDifference(mean_of([new - old for old, new in zip(before, after, strict=True)]))
