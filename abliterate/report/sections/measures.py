"""The run's own figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.report import format as text
from abliterate.report.load import Gathered

SIDES = ("harmful", "harmless")
MODELS = ("original", "edited")
PROMPT_KINDS = {
    "first_token": "KL, last prompt token",
    "first_token_answered": "KL, last prompt token, where answered",
    "over_replies": "KL, over the original's replies",
}


def words(records: Gathered) -> dict[str, Any]:
    """Return what the template fills in."""
    figures = records.manifest["figures"]
    return {"measures": measures(records.manifest), "reply_tokens": figures["reply_tokens"] if figures else None}


def numbers(records: Gathered) -> dict[str, Any]:
    """Return what the script draws."""
    return {"figures": records.manifest["figures"], "kinds": PROMPT_KINDS}


def measures(manifest: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the run's own figures as rows: name, original, edited."""
    figures = manifest["figures"]
    if not figures:
        return []
    rows = [
        (f"Refusals, {side} prompts", *(text.rate_html(figures[model][f"{side}_refusals"]) for model in MODELS))
        for side in SIDES
    ]
    return [
        *rows,
        *((title, "", f"{text.mean_html(figures['kl'][kind])} nats") for kind, title in PROMPT_KINDS.items()),
    ]
