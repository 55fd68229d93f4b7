"""What a run saw, for the page."""

from __future__ import annotations

import json

import torch
from transformers import PreTrainedModel

from abliterate.activations.geometry import Geometry
from abliterate.directions.candidates import Candidate, Selection
from abliterate.evaluation.observation import Observation, Reply
from abliterate.models.head import Head
from abliterate.records.observations import observations, reply_records
from abliterate.records.schema import check_shape
from abliterate.records.shapes import OBSERVED


def test_replies_stand_with_their_verdicts_and_scores_that_are_not_numbers_are_null(llama: PreTrainedModel) -> None:
    chosen = Candidate(3, -1, -2.0, 1.0, 0.05)
    selection = Selection(chosen, (chosen, Candidate(2, -2, float("nan"))), 4.0, -4.0, 0.0)
    seen = Geometry(
        (-2, -1), torch.ones(2, 2), torch.zeros(2, 2), -1, torch.ones(2, 2), torch.ones(2, 3, 2), torch.ones(2, 1, 2)
    )
    no, yes = Reply("bad", (1,), "I'm sorry, but I can't help with that."), Reply("good", (2,), "Sure.")
    original = Observation((no,), (yes,), (), Head(llama))
    edited = Observation((Reply("bad", (1,), "Take a rope."),), (yes,), (), Head(llama))
    record = json.loads(
        json.dumps(observations(seen, (("a", "b", "c"), ("d",)), selection, original, edited), allow_nan=False)
    )
    check_shape(record, OBSERVED, "observations.json")
    assert record["chosen"] == {"layer": 3, "position": -1}
    assert record["candidates"][1] == {
        "layer": 2,
        "position": -2,
        "bypass": None,
        "induce": None,
        "kl": None,
        "estimate": None,
    }
    replies = record["replies"]
    assert replies["original"]["harmful"] == [{"prompt": "bad", "reply": no.text, "refused": True}]
    assert [one["refused"] for one in replies["edited"]["harmful"]] == [False]
    assert replies["edited"]["harmless"] == replies["original"]["harmless"]
    assert record["pca"]["prompts"] == {"harmful": ["a", "b", "c"], "harmless": ["d"]}


def test_other_kinds_of_prompts_stand_there_where_they_were_asked(llama: PreTrainedModel) -> None:
    no, yes = Reply("bad", (1,), "I'm sorry, but I can't help with that."), Reply("good", (2,), "Sure.")
    seen = Observation((no,), (yes,), (), Head(llama), (yes, no), (no,))
    assert [*reply_records(seen)] == ["harmful", "harmless", "look-alikes", "keep"]
    assert {name: (rate.count, rate.total) for name, rate in seen.other_refusals.items()} == {
        "look-alikes": (1, 2),
        "keep": (1, 1),
    }
    assert "other_refusals" not in Observation((no,), (yes,), (), Head(llama)).to_json()
