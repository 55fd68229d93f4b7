"""The front of a search: refusals against KL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.evaluation.statistics import Rate
from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.search.front import SLACK


def words(records: Gathered) -> dict[str, Any]:
    """Return what the template fills in."""
    return {"front": front(records.manifest)}


def numbers(records: Gathered) -> dict[str, Any]:
    """Return what the script draws."""
    return {"front": front(records.manifest)}


def front(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the points of a search with the intervals of their refusals, and which of them no other beats."""
    search = manifest["search"]
    if not search:
        return None
    # A reply that goes round in circles is no refusal: such edits are shown, and do not make the front.
    allowed = max(search["points"][search["chosen"]]["incoherent"], SLACK * search["original"]["prompts"])
    good = [(one["refusals"], one["kl"]) for one in search["points"] if one["incoherent"] <= allowed]
    points = []
    for place, one in enumerate(search["points"]):
        own = (one["refusals"], one["kl"])
        beaten = any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in good)
        rate = Rate(one["refusals"], one["prompts"]).to_json()
        points.append({
            "kl": one["kl"], "rate": rate, "incoherent": one["incoherent"], "pressure": one["pressure"],
            "chosen": place == search["chosen"], "best": own in good and not beaten,
            "words": [text.number_html(one["kl"]), text.rate_html(rate), text.number_html(one["pressure"])],
        })  # fmt: skip
    original = Rate(search["original"]["refusals"], search["original"]["prompts"]).to_json()
    return {"points": points, "original": original, "words": text.rate_html(original)}
