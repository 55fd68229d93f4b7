"""The figures of a card: rates and means with their intervals, as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from abliterate.evaluation.figure_names import (
    divergences,
    modes_refused,
    others_refused,
    percent,
    prompts_refused,
)

NOT_MEASURED = "not measured"


def figures_text(figures: Mapping[str, Any] | None) -> str:
    """Return refusal rates before and after, and the divergence, with their intervals; or that there are none."""
    if figures is None:
        return "Refusals and divergence of this checkpoint were not measured."
    rates = {prompts_refused(side): f"{side}_refusals" for side in ("harmful", "harmless")}
    lines = [
        "Measured on the checkpoint as it was written, with prompts that took no part in choosing the edit; intervals "
        f"are 95%. Replies were cut at {number_text(figures['reply_tokens'])} tokens.",
        "",
        "| | original | edited |",
        "|---|---|---|",
        *(
            f"| {title} | {rate_text(figures['original'].get(key))} | {rate_text(figures['edited'].get(key))} |"
            for title, key in rates.items()
        ),
        *(
            f"| {title} | {rate_text(before)} | {rate_text(after)} |"
            for title, (before, after) in {**others_refused(figures), **modes_refused(figures)}.items()
        ),
        "",
        "| KL(original ‖ edited), nats, harmless prompts | mean |",
        "|---|---|",
        *(f"| {title} | {mean_text(one)} |" for title, one in divergences(figures).items()),
    ]
    return "\n".join(lines)


def rate_text(figure: Mapping[str, Any] | None) -> str:
    """Return a rate with its counts and interval."""
    if figure is None or not figure["total"] or not is_finite(figure["rate"], figure["low"], figure["high"]):
        return NOT_MEASURED
    counts = f"{number_text(figure['count'])} of {number_text(figure['total'])}"
    return f"{percent(figure['rate'], 1)} ({percent(figure['low'], 1)} to {percent(figure['high'], 1)}), {counts}"


def mean_text(figure: Mapping[str, Any] | None) -> str:
    """Return a mean with its interval and the number of values."""
    if figure is None or not figure["count"] or not is_finite(figure["mean"], figure["low"], figure["high"]):
        return NOT_MEASURED
    interval = f"{number_text(figure['low'])} to {number_text(figure['high'])}"
    return f"{number_text(figure['mean'])} ({interval}), {number_text(figure['count'])} prompts"


def is_finite(*values: int | float | None) -> bool:
    """Tell whether all are numbers."""
    return all(value is not None and math.isfinite(value) for value in values)


def number_text(value: int | float) -> str:
    """Return a number with three significant digits, counts in full."""
    return str(value) if isinstance(value, int) else f"{value:.3g}"
