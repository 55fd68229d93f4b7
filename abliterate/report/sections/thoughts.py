"""The component along the direction over the thoughts of a model that thinks: how it goes from token to token."""

from __future__ import annotations

from typing import Any

from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MARKUP = """\
<section id="thoughts"><h2>Over the thought</h2>
<p>The component of the residual stream after {{ layer }} blocks along the direction, at the first and last tokens of the original's own thoughts: {{ harmful }} about harmful prompts of the report split, {{ harmless }} about harmless ones. Thoughts that were cut, or are shorter, are left out. Refusal is said to stay high through a thought and to fall off a cliff at its last tokens (arXiv 2510.06036).</p>
<figure>{{ plot("plot-cliff", "Component along the direction at the first and last tokens of thoughts about harmful and harmless prompts, with 95% intervals") }}
<figcaption>Mean and 95% interval over prompts; the last place is the token before the reply.</figcaption>{{ save("plot-cliff") }}</figure>
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the layer and the numbers of thoughts, or None where nothing was thought."""
    found = (records.observations or {}).get("cliff")
    if not found:
        return None
    return {"layer": found["layer"], **{side: found[side]["thoughts"] for side in ("harmful", "harmless")}}


def numbers(records: Gathered) -> dict[str, Any]:
    """Return the means and intervals of both kinds of prompts."""
    return {"cliff": (records.observations or {}).get("cliff")}


SECTION = Section("thoughts", "Over the thought", MARKUP, words, numbers)
