"""Where harmful and harmless prompts part, and the candidates that were scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.report.load import Gathered


def words(records: Gathered) -> dict[str, Any]:
    """Return what the template fills in; None where the run observed nothing."""
    return {"observed": observed(records.observations) if records.observations else None}


def numbers(records: Gathered) -> dict[str, Any]:
    """Return what the script draws."""
    observed = records.observations
    return {
        "separation": observed and observed["separation"],
        "pca": observed and observed["pca"],
        "candidates": observed and observed["candidates"],
        "score": observed and next(iter(scored(observed)), None),
        "chosen": observed and observed["chosen"],
    }


def observed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return which of the run's observations there are, and the scores that some candidate has."""
    titles = {"bypass": "Bypass", "induce": "Induce", "kl": "KL"}
    return {
        "separation": bool(record["separation"]["layers"]),
        "activations": bool(record["pca"]["layers"]),
        "scores": [(name, titles[name]) for name in scored(record)],
    }


def scored(record: Mapping[str, Any]) -> list[str]:
    """Return the scores that some candidate has."""
    return [name for name in ("bypass", "induce", "kl") if any(one[name] is not None for one in record["candidates"])]
