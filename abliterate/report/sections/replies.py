"""Replies side by side: the run's own, and the evaluation's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abliterate.report.load import Gathered
from abliterate.report.sections.measures import MODELS


def words(records: Gathered) -> dict[str, Any]:
    """Return what the template fills in."""
    return {"explorers": [{key: listed[key] for key in ("id", "title", "columns")} for listed in explorers(records)]}


def numbers(records: Gathered) -> dict[str, Any]:
    """Return what the script lists."""
    return {"explorers": explorers(records)}


def explorers(records: Gathered) -> list[dict[str, Any]]:
    """Return the lists of replies side by side: the run's own, and the evaluation's."""
    shown = []
    if records.observations:
        replies = records.observations["replies"]
        shown.append(
            {"id": "run", "title": "In the run", "columns": list(MODELS), "pairs": pairs([replies[m] for m in MODELS])}
        )
    if records.evaluation:
        replies = records.evaluation["replies"]
        columns = ["against", "model"] if replies.get("against") else ["model"]
        names = [records.evaluation[column] or column for column in columns]
        listed = pairs([replies[column] for column in columns])
        shown.append({"id": "evaluation", "title": "In the evaluation", "columns": names, "pairs": listed})
    return shown


def pairs(models: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """Return each prompt with its side and the reply of each model."""
    return [
        {
            "side": side,
            "prompt": replies[0]["prompt"],
            "replies": [
                {"text": one["reply"], "refused": one["refused"], "label": one.get("label")} for one in replies
            ],
        }
        for side in models[0]
        for replies in zip(*(model.get(side, []) for model in models), strict=True)
    ]
