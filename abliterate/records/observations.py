"""`observations.json`: what a run saw, for the report page. It holds prompts and replies, and stays on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.activations.geometry import Geometry
from abliterate.directions.candidates import Selection
from abliterate.evaluation.observation import Observation, Reply
from abliterate.evaluation.statistics import json_number

OBSERVATIONS_FORMAT = 1


def observations(
    geometry: Geometry,
    prompts: tuple[tuple[str, ...], tuple[str, ...]],
    selection: Selection,
    original: Observation,
    edited: Observation,
    words: Mapping[str, Any] | None = None,
    cliff: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of the file; `prompts` are the harmful and harmless ones that the geometry is of.

    `words` say what the directions mean: they are words of the prompts and of replies, and stay here with those. `cliff` has
    the component along the direction over the thoughts of a model that thinks.
    """
    chosen = selection.chosen
    return {
        "format": OBSERVATIONS_FORMAT,
        **geometry.to_json(*prompts),
        "candidates": [
            {name: json_number(value) if isinstance(value, float) else value for name, value in vars(one).items()}
            for one in selection.candidates
        ],
        "chosen": {"layer": chosen.layer, "position": chosen.position},
        "replies": {"original": reply_records(original), "edited": reply_records(edited)},
        **({"words": dict(words)} if words else {}),
        **({"cliff": dict(cliff)} if cliff else {}),
    }


def reply_records(one: Observation) -> dict[str, list[dict[str, Any]]]:
    """Return every report prompt with the reply and the verdict."""

    def listed(given: tuple[Reply, ...]) -> list[dict[str, Any]]:
        return [{"prompt": reply.prompt, "reply": reply.text, "refused": reply.refused} for reply in given]

    others = {"look-alikes": one.look_alikes, "keep": one.kept}
    found = {"harmful": listed(one.harmful), "harmless": listed(one.harmless)}
    return found | {name: listed(replies) for name, replies in others.items() if replies}
