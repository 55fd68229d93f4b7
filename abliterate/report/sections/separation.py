"""How well the direction of each layer and position tells harmful from harmless prompts."""

from __future__ import annotations

from typing import Any

from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MARKUP = """\
<section id="separation"><h2>Where the direction separates</h2>
<p>How well the direction of each layer and position tells harmful from harmless prompts it was not made from (cross-validated by halves). Layer <i>l</i> is the residual stream after <i>l</i> blocks; positions count from the end of the prompt. Harmfulness is said to sit at the end of the instruction, refusal at the end of the template (arXiv 2507.11878): both are shown, and directions are made of the template's tokens alone.</p>
{{ choices("separation", "Measure of separation", [("auc", "AUC"), ("d", "Cohen's d")]) }}
<figure>{{ plot("plot-separation", "Separation of harmful from harmless prompts by layer, one line for each position") }}
<figcaption><span id="separation-caption"></span> The ring marks the layer and position that were chosen.</figcaption>{{ save("plot-separation") }}</figure>
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return nothing to fill in, or None where nothing was observed."""
    observed = records.observations
    return {} if observed and observed["separation"]["layers"] else None


def numbers(records: Gathered) -> dict[str, Any]:
    """Return both measures by layer and position, and the choice that they are marked with."""
    observed = records.observations
    return {"separation": observed and observed["separation"], "chosen": observed and observed["chosen"]}


SECTION = Section("separation", "Separation", MARKUP, words, numbers)
