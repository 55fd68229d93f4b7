"""The scores of every candidate, and the strengths at which an addition was tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.evaluation.statistics import Rate
from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MARKUP = """\
<section id="selection"><h2>Selection</h2>
{% if added %}
<p>Every candidate, scored on prompts that made no direction: the refusal score of harmless prompts with it added. The best are tried at several strengths, by replies to harmful and harmless prompts: the trial with most refusals that make sense is taken.</p>
{% else %}
<p>Every candidate, scored on prompts that made no direction. <b>Bypass</b>: refusal score of harmful prompts with the direction ablated, lower is better. <b>Induce</b>: refusal score of harmless prompts with it added, must be positive. <b>KL</b>: divergence on harmless prompts, must stay small. Only the better candidates by bypass go on to the other two.</p>
{% endif %}
{{ choices("score", "Score of the candidates", scores) }}
<figure>{{ plot("plot-selection", "Score of each candidate by layer and position") }}
<figcaption><span id="selection-caption"></span> The frame marks the choice; empty cells were not scored.</figcaption>{{ save("plot-selection") }}</figure>
{% if trials %}
{{ table("Trials, the best first.", ["layer", "position", "strength", "refused, and sense"], trials, "Strength 1 is the difference in means once.") }}
{% endif %}
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the scores that some candidate has, and the trials; None where no candidate has one."""
    scores = scored(records.observations) if records.observations else []
    if not scores:
        return None
    titles = {"bypass": "Bypass", "induce": "Induce", "kl": "KL"}
    return {
        "scores": [(name, titles[name]) for name in scores],
        "trials": trials(records.manifest),
        "added": records.manifest["recipe"].get("added") is not None,
    }


def numbers(records: Gathered) -> dict[str, Any]:
    """Return the candidates, and the score to show first."""
    observed = records.observations
    return {
        "candidates": observed and observed["candidates"],
        "score": observed and next(iter(scored(observed)), None),
    }


def scored(record: Mapping[str, Any]) -> list[str]:
    """Return the scores that some candidate has."""
    return [name for name in ("bypass", "induce", "kl") if any(one[name] is not None for one in record["candidates"])]


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


SECTION = Section("selection", "Selection", MARKUP, words, numbers)
