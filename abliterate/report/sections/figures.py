"""The run's own figures: refusals and divergence, original and edited, as plots and a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.evaluation.figure_names import (
    DIVERGENCES,
    divergences,
    modes_refused,
    others_refused,
    prompts_refused,
)
from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.section import MODELS, SIDES, Section
from abliterate.report.unlike import unlike

MARKUP = """\
<section id="figures"><h2>Refusals and damage</h2>
{% if unlike %}<p class="unlike"><strong>Not to be set beside the evaluation below</strong>, which was made otherwise: {{ unlike | join("; ") }}.</p>
{% endif %}<p>Measured on the checkpoint as written, on prompts that took no part in choosing the edit. Greedy replies of up to {{ reply_tokens }} tokens. Brackets and bars are 95% intervals: Wilson's for rates, the bootstrap for means.</p>
<div class="pair">
<figure>{{ plot("plot-refusals", "Share of prompts refused by the original and the edited model, with intervals; the table below holds the same figures") }}
<figcaption>Share of prompts refused.</figcaption>{{ save("plot-refusals") }}</figure>
<figure>{{ plot("plot-damage", "KL divergence of the edited from the original model in three conventions, with intervals; the table below holds the same figures") }}
<figcaption>KL(original ‖ edited) on harmless prompts, in nats.</figcaption>{{ save("plot-damage") }}</figure>
</div>
{{ table("Refusals and divergence.", ["", "original", "edited"], measures) }}
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the table, and in what an evaluation on the same page was made otherwise; None without figures."""
    manifest, evaluation = records.manifest, records.evaluation
    if not manifest["figures"]:
        return None
    return {
        "measures": measures(manifest["figures"]),
        "reply_tokens": manifest["figures"]["reply_tokens"],
        "unlike": unlike(manifest, evaluation["settings"]) if evaluation else [],
    }


def numbers(records: Gathered) -> dict[str, Any]:
    """Return the figures, and what their kinds of divergence are called."""
    return {"figures": records.manifest["figures"], "kinds": dict(DIVERGENCES)}


def measures(figures: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the run's own figures as rows: name, original, edited."""
    rows = [
        (prompts_refused(side), *(text.rate_html(figures[model][f"{side}_refusals"]) for model in MODELS))
        for side in SIDES
    ]
    others = {**others_refused(figures), **modes_refused(figures)}
    rows += [(title, *map(text.rate_html, both)) for title, both in others.items()]
    return [*rows, *((title, "", f"{text.mean_html(one)} nats") for title, one in divergences(figures).items())]


SECTION = Section("figures", "Figures", MARKUP, words, numbers)
