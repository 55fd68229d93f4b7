"""What an edit removed, in words, in its record."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from abliterate.models.live_model import LiveModel
from abliterate.pipeline import removed_words as room
from abliterate.pipeline.removed_words import removed_words
from abliterate.pipeline.run import Result
from abliterate.projection import normalize
from abliterate.storage.names import OBSERVATIONS
from abliterate.studies.features.words import vocabulary, word_vectors
from fixtures.tiny_chat import TINY, tiny_chat

TEXTS = [f"{first} {second}" for first in ("kettle", "cannot", "sorry", "boat", "bread") for second in ("garden", "forest", "harbour", "window", "pencil", "ladder", "mirror", "pillow", "basket", "candle", "hammer", "violin", "carpet", "saddle", "anchor", "button")]  # fmt: skip


@pytest.fixture(scope="module")
def live() -> LiveModel:
    return LiveModel.of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval(), tiny_chat())


def test_a_direction_that_is_a_word_is_said_by_it(live: LiveModel) -> None:
    known = vocabulary(TEXTS)
    vectors = word_vectors(live, known)
    gain = dict(live.model.base_model.named_parameters())["norm.weight"].detach()
    row = normalize((vectors[known.places["kettle"]] - vectors.mean(0)) / gain)
    found = removed_words(live, row[None], TEXTS)
    assert found is not None
    assert found["vocabulary"] == len(known)
    (one,) = found["directions"]
    assert one["along"][0] == "kettle"
    assert "kettle" not in one["against"][:3]


def test_where_nothing_can_be_said_nothing_is(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    row = torch.ones(1, 160)
    assert removed_words(live, row, ["一二三", "123"]) is None
    monkeypatch.setattr(room, "streaming_of", lambda model: object())
    assert removed_words(live, row, TEXTS) is None


def test_the_record_of_a_run_holds_them(result: Result) -> None:
    held = json.loads((result.out / OBSERVATIONS).read_text())["words"]
    assert held["vocabulary"] > 50
    (one,) = held["directions"]
    assert len(one["along"]) == len(one["against"]) == 10
    assert one["along"][0] != one["against"][0]
