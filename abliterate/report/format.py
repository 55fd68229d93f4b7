"""Figures as people read them: rates and means with their 95% intervals, small numbers as powers of ten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.evaluation.figure_names import interval_text, percent, rate_text

Number = int | float
"""JSON writes a float that is whole as it likes."""

MISSING = "–"
TIED = "\u00a0"
"""A space at which no line is broken: a figure stays whole in a narrow table, its interval may go below it."""

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number_html(value: Number | None) -> str:
    """Return three significant digits: `0.291`, `7.1 × 10⁻⁵`, `41.9`; a dash where there is none."""
    if value is None:
        return MISSING
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}".replace("-", "−") if abs(value) < 1000 else f"{value:,.0f}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{float(digits):g}{TIED}×{TIED}10{str(int(exponent)).translate(RAISED)}".replace("-", "−")


def share_html(value: Number | None) -> str:
    """Return a share in per cent, with one digit behind the point where it is neither none nor all."""
    if value is None:
        return MISSING
    return percent(float(value), 0 if value in (0, 1) else 1)


def interval(low: Number | None, high: Number | None, shares: bool = False) -> str:
    """Return `[0%, 8.4%]` or `[0.0052, 0.853]`."""
    show = share_html if shares else number_html
    return interval_text(show(low), show(high)).replace(", ", f",{TIED}")


def rate_html(one: Mapping[str, Any]) -> str:
    """Return a rate as `3/65 = 4.6% [1.6%, 12.7%]`."""
    limits = interval(one["low"], one["high"], True)
    return rate_text(one["count"], one["total"], share_html(one["rate"]), limits).replace(" = ", f"{TIED}={TIED}")


def mean_html(one: Mapping[str, Any]) -> str:
    """Return a mean as `0.061 [0.043, 0.082]`."""
    return f"{number_html(one['mean'])} {interval(one['low'], one['high'])}"


def estimate_html(one: Mapping[str, Any] | None) -> str:
    """Return a rate or a mean with its interval; a dash where it was not measured."""
    if one is None:
        return MISSING
    return rate_html(one) if "rate" in one else mean_html(one)
