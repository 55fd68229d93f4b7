"""What `evaluate` shows."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table

from abliterate.render.figures import rate
from abliterate.render.run import divergence_rows, replies
from abliterate.verbs.evaluate import Evaluated


def evaluated(one: Evaluated) -> RenderableType:
    """Return the figures of a model, beside those of the one it is held against."""
    models = [one.model] if one.against is None else [one.against, one.model]
    names = ["model"] if one.against is None else ["against", "model"]
    table = Table("", *names)
    table.add_row("refusals, harmful", *(rate(each.harmful_refusals) for each in models))
    table.add_row("refusals, harmless", *(rate(each.harmless_refusals) for each in models))
    if one.divergence:
        divergence_rows(table, one.divergence)
    return table


def evaluated_json(one: Evaluated) -> dict[str, Any]:
    """Return figures and replies as JSON."""
    return {
        "model": {**one.model.to_json(), "replies": replies(one.model)},
        "against": {**one.against.to_json(), "replies": replies(one.against)} if one.against else None,
        "kl": one.divergence.to_json() if one.divergence else None,
    }
