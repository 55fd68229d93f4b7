"""`model-index` in the head of a card: what was measured, and names that cannot end the head."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from abliterate.records.card_index import index_of, prompts_name
from fixtures.model_cards import HOSTILE

RATE = {"count": 3, "total": 65, "rate": 3 / 65, "low": 0.016, "high": 0.127}
MEAN = {"mean": 0.06, "count": 100, "low": 0.04, "high": 0.08}
MANIFEST: dict[str, Any] = {
    "figures": {
        "edited": {"harmful_refusals": RATE, "harmless_refusals": {**RATE, "rate": 0.0}},
        "kl": {"first_token": MEAN, "first_token_answered": MEAN, "over_replies": MEAN},
    },
    "prompts": {"harmful": {"spec": "builtin:harmful"}, "harmless": {"spec": "org/dataset:train"}},
}


def test_every_figure_of_the_edited_model_is_there_with_its_value() -> None:
    found = index_of(MANIFEST)
    assert [one.metric_value for one in found] == [3 / 65, 0.0, 0.06, 0.06, 0.06]
    assert [one.dataset_name for one in found] == ["builtin:harmful", *["org/dataset:train"] * 4]
    assert len({one.metric_name for one in found}) == len(found)


def test_what_was_not_measured_is_not_there() -> None:
    assert index_of({**MANIFEST, "figures": None}) == []
    fewer = copy.deepcopy(MANIFEST)
    fewer["figures"]["edited"]["harmless_refusals"] = {**RATE, "total": 0, "rate": None}
    fewer["figures"]["kl"] = {"first_token": {**MEAN, "mean": math.inf}, "over_replies": {**MEAN, "count": 0}}
    assert [one.metric_value for one in index_of(fewer)] == [3 / 65]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_other_name_gets_into_the_head(text: str) -> None:
    assert prompts_name("harmful", text) == "harmful prompts"


def test_of_another_behaviour_no_figure_is_called_a_rate_of_refusals() -> None:
    for manifest in ({**MANIFEST, "target": "slop"}, {**MANIFEST, "run": {"target": "slop"}}):
        found = index_of(manifest)
        assert [one.metric_type for one in found] == ["behaviour_rate"] * 2 + ["kl_divergence"] * 3
        assert found[0].metric_name == "Harmful prompts whose replies show slop"
    assert (
        index_of({**MANIFEST, "target": "a: b\n---"})[0].metric_name == "Harmful prompts whose replies show a behaviour"
    )
