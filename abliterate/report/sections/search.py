"""Every edit that a search found: refusals against divergence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.evaluation.statistics import Rate
from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section
from abliterate.search.choice import USUAL_MAX_LOST
from abliterate.search.front import SLACK, least_kept

MARKUP = """\
<section id="search"><h2>Search</h2>
<p>Each point is an edit that the search found, on prompts that neither made the direction nor measure the result. The original refuses {{ front.words }}.</p>
<figure>{{ plot("plot-front", "Refusals against KL divergence of every edit that the search found; the table below holds the same figures") }}
<figcaption>Refusals against KL at the first reply token; the line joins edits that no other beats in both.</figcaption>{{ save("plot-front") }}</figure>
<div class="wide" tabindex="0" role="region" aria-label="Edits that the search found"><table>
<caption>Edits that the search found.</caption>
<thead><tr><th scope="col">KL, nats</th><th scope="col">refusals, {{ front.removed }}</th>{% if front.keeps %}<th scope="col">refusals that should stay</th>{% endif %}<th scope="col">incoherent</th><th scope="col">pressure</th><th scope="col"></th></tr></thead>
<tbody>
{% for one in front.points | sort(attribute="kl") %}
<tr{{ ' class="chosen"' | safe if one.chosen }}><th scope="row">{{ one.words[0] }}</th><td data-head="refusals, {{ front.removed }}">{{ one.words[1] }}</td>{% if front.keeps %}<td data-head="refusals that should stay">{{ one.kept }}</td>{% endif %}<td data-head="incoherent">{{ one.incoherent }}</td><td data-head="pressure">{{ one.words[2] }}</td><td>{{ "chosen" if one.chosen else "" }}</td></tr>
{% endfor %}
</tbody></table></div>
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the points as a table; None where nothing was searched."""
    found = front(records.manifest)
    return {"front": found} if found else None


def numbers(records: Gathered) -> dict[str, Any]:
    """Return the points."""
    return {"front": front(records.manifest)}


def front(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the points of a search with the intervals of their refusals, and which of them no other beats."""
    search = manifest["search"]
    if not search:
        return None
    # A reply that goes round in circles is no refusal: such edits are shown, and do not make the front.
    allowed = max(search["points"][search["chosen"]]["incoherent"], SLACK * search["original"]["prompts"])
    original = search["original"]
    # As for those that lose refusals that should stay.
    least = least_kept(
        original.get("kept") or 0, USUAL_MAX_LOST if search.get("max_lost") is None else search["max_lost"]
    )
    good = [
        (one["refusals"], one["kl"])
        for one in search["points"]
        if one["incoherent"] <= allowed and (one.get("kept") or 0) >= least
    ]
    points = []
    for place, one in enumerate(search["points"]):
        own = (one["refusals"], one["kl"])
        beaten = any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in good)
        rate = Rate(one["refusals"], one["prompts"]).to_json()
        points.append({
            "kl": one["kl"], "rate": rate, "incoherent": one["incoherent"], "pressure": one["pressure"],
            "chosen": place == search["chosen"], "best": own in good and not beaten,
            "kept": kept_words(one),
            "words": [text.number_html(one["kl"]), text.rate_html(rate), text.number_html(one["pressure"])],
        })  # fmt: skip
    before = Rate(original["refusals"], original["prompts"]).to_json()
    calmed, held = "look-alikes" in (manifest["prompts"] or {}), kept_words(original)
    said = " of the look-alikes" * calmed + f", and {held} of what should stay" * bool(held)
    return {
        "points": points,
        "original": before,
        "words": text.rate_html(before) + said,
        "removed": "look-alikes" if calmed else "harmful",
        "keeps": bool(held),
    }


def kept_words(one: Mapping[str, Any]) -> str:
    """Return how many refusals are left of those that should stay, nothing where none were named."""
    return text.rate_html(Rate(one["kept"], one["kept_prompts"]).to_json()) if one.get("kept_prompts") else ""


SECTION = Section("search", "Search", MARKUP, words, numbers)
