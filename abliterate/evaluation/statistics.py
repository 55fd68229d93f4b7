"""Estimates with 95% intervals: Wilson's for rates, the bootstrap for means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from abliterate.errors import InputError

Z95 = 1.959963984540054
RESAMPLES = 2000


@dataclass(frozen=True)
class Rate:
    """`count` of `total`, with the Wilson score interval (Wilson 1927)."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """Return the share, NaN of nothing."""
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95% interval of the share."""
        if not self.total:
            return 0.0, 1.0
        n, p, z = self.total, self.value, Z95
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        # At the ends the interval closes exactly; rounding must not say otherwise.
        return (0.0 if self.count == 0 else centre - half), (1.0 if self.count == n else centre + half)

    def to_json(self) -> dict[str, object]:
        """Return count, total, share and interval."""
        low, high = self.interval
        return {"count": self.count, "total": self.total, "rate": json_number(self.value), "low": low, "high": high}


@dataclass(frozen=True)
class Mean:
    """The mean of `values` with a percentile bootstrap interval over `RESAMPLES` resamples, seed 0."""

    values: tuple[float, ...]

    @property
    def value(self) -> float:
        """Return the mean, NaN of nothing."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95% interval of the mean."""
        if not self.values:
            return math.nan, math.nan
        numbers = numpy.asarray(self.values)
        picks = numpy.random.default_rng(0).integers(0, len(numbers), (RESAMPLES, len(numbers)))
        low, high = numpy.percentile(numbers[picks].mean(axis=1), (2.5, 97.5))
        return float(low), float(high)

    def to_json(self) -> dict[str, object]:
        """Return mean, number of values and interval."""
        low, high = self.interval
        return {
            "mean": json_number(self.value),
            "count": len(self.values),
            "low": json_number(low),
            "high": json_number(high),
        }


def json_number(value: float) -> float | None:
    """Return the value, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of a sequence of numbers. Raises InputError where one of them is NaN or infinite."""
    numbers = tuple(float(value) for value in values)
    for place, number in enumerate(numbers):
        if not math.isfinite(number):
            raise InputError(f"value {place + 1} of {len(numbers)} of a figure is {number}: it cannot be reported")
    return Mean(numbers)
