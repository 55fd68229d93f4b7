"""The figures of a model card as the Hub reads them: `model-index` in its head."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub import EvalResult

from abliterate.evaluation.figure_names import DIVERGENCES, behaviour_of, prompts_refused

TASK, TASK_NAME = "text-generation", "Text Generation"

KNOWN = re.compile(r"(builtin:[\w-]{1,60}|[\w.-]{1,96}/[\w.-]{1,96})(:[\w.-]{1,60}){0,2}", re.ASCII)
"""Lists of ours and of the Hub: names that are written into the head as they are."""

REFUSALS, BEHAVIOUR, DIVERGENCE = "refusal_rate", "behaviour_rate", "kl_divergence"
"""Types of our metrics: none of the Hub's own has what they measure."""


def index_of(manifest: Mapping[str, Any]) -> list[EvalResult]:
    """Return the measured figures of the edited model: refusal rates (a share of 1) and divergences (nats); none where none were."""
    figures = manifest["figures"]
    if figures is None:
        return []
    prompts = manifest.get("prompts") or {}
    return [
        EvalResult(
            task_type=TASK,
            task_name=TASK_NAME,
            dataset_type="prompts",
            dataset_name=prompts_name(side, (prompts.get(side) or {}).get("spec")),
            dataset_split="report",
            metric_type=kind,
            metric_name=title,
            metric_value=value,
        )
        for side, kind, title, value in measured(figures, behaviour_of(manifest))
    ]


def prompts_name(side: str, spec: object) -> str:
    """Return what the head calls the prompts: any other name might end the head."""
    return str(spec) if KNOWN.fullmatch(str(spec)) else f"{side} prompts"


def plain(behaviour: str) -> str:
    """Return a behaviour's name; one that is none of a scorer's might end the head."""
    return behaviour if re.fullmatch(r"[\w-]{1,60}", behaviour, re.ASCII) else "a behaviour"


def measured(figures: Mapping[str, Any], behaviour: str | None) -> Iterator[tuple[str, str, str, float]]:
    """Yield side, metric, title and value of each figure that was measured; `behaviour` is what refusals stand for, None for them."""
    for side in ("harmful", "harmless"):
        rate = figures["edited"].get(f"{side}_refusals")
        if rate and rate["total"] and rate["rate"] is not None and math.isfinite(rate["rate"]):
            named = (REFUSALS, prompts_refused(side))
            if behaviour is not None:
                named = (BEHAVIOUR, f"{side.capitalize()} prompts whose replies show {plain(behaviour)}")
            yield side, *named, rate["rate"]
    for key, title in DIVERGENCES.items():
        mean = figures["kl"].get(key)
        if mean and mean["count"] and mean["mean"] is not None and math.isfinite(mean["mean"]):
            yield "harmless", DIVERGENCE, title, mean["mean"]
