"""How strong the edit is at each site and layer."""

from __future__ import annotations

from typing import Any

from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MARKUP = """\
<section id="strengths"><h2>Strengths</h2>
<p>Strength {{ strengths }}. 1 removes the component along the direction, 0 leaves it, above 1 reverses it.</p>
<figure>{{ plot("plot-strengths", "Strength of the edit at each site and layer") }}
<figcaption>Strength by site and layer.</figcaption>{{ save("plot-strengths") }}</figure>
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the strengths in a few words; None for an addition, which has none of these."""
    if records.manifest["recipe"].get("added") is not None:
        return None
    return {"strengths": strengths_line(records)}


def numbers(records: Gathered) -> dict[str, Any]:
    """Return the strengths by site and layer."""
    return {"strengths": by_layer(records)}


def by_layer(records: Gathered) -> dict[str, list[float] | float]:
    """Return the strength of each site: one number for the embedding, one a layer for the others.

    Where each direction has its own, the second's at `attn` is called `attn 2`.
    """
    spread: dict[str, list[float] | float] = {}
    given = records.manifest["recipe"]["strengths"]
    each = given if isinstance(given, list) else [given]
    for place, own in enumerate(each, 1):
        for site, value in own.items():
            name = f"{site} {place}" if len(each) > 1 else site
            if site == "embed":
                spread[name] = float(value[0] if isinstance(value, list) else value)
            else:
                spread[name] = [*map(float, value)] if isinstance(value, list) else [float(value)] * records.depth
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
    kept = ", lengths of columns kept" if recipe.get("form") == "columns" else ""
    where = ", ".join(dict.fromkeys(name.partition(" ")[0] for name in spread))
    if min(every) == max(every):
        return f"{every[0]:g} at every layer of {where}{kept}"
    return f"{min(every):.2f} to {max(every):.2f}, by layer, at {where}"


SECTION = Section("strengths", "Strengths", MARKUP, words, numbers)
