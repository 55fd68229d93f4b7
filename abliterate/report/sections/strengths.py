"""How strongly each layer and site is edited, and the strengths at which an addition was tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.evaluation.statistics import Rate
from abliterate.report import format as text
from abliterate.report.load import Gathered


def words(records: Gathered) -> dict[str, Any]:
    """Return what the template fills in."""
    return {"trials": trials(records.manifest), "strengths": strengths_line(records)}


def numbers(records: Gathered) -> dict[str, Any]:
    """Return what the script draws."""
    return {"strengths": by_layer(records)}


def by_layer(records: Gathered) -> dict[str, list[float] | float]:
    """Return the strength of each site: one number for the embedding, one a layer for the others."""
    spread: dict[str, list[float] | float] = {}
    for site, value in records.manifest["recipe"]["strengths"].items():
        if site == "embed":
            spread[site] = float(value[0] if isinstance(value, list) else value)
        else:
            spread[site] = [*map(float, value)] if isinstance(value, list) else [float(value)] * records.depth
    return spread


def strengths_line(records: Gathered) -> str:
    """Return the strengths of all sites in a few words."""
    recipe = records.manifest["recipe"]
    if recipe.get("added") is not None:
        return f"a vector of length {text.number_html(recipe['added'])} added to {recipe['direction']}, at every token"
    spread = by_layer(records)
    every = [one for value in spread.values() for one in (value if isinstance(value, list) else [value])]
    if not every:
        return "none"
    where = ", ".join(spread)
    if min(every) == max(every):
        return f"{every[0]:g} at every layer of {where}"
    return f"{min(every):.2f} to {max(every):.2f}, by layer, at {where}"


def trials(manifest: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the strengths at which an addition was tried, as rows."""
    return [
        (
            str(one["layer"]),
            str(one["position"]).replace("-", "−"),
            text.number_html(one["strength"]),
            text.rate_html(Rate(one["refused"], one["prompts"]).to_json()),
        )
        for one in manifest.get("trials") or []
    ]
