"""What centroids say, in words."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from abliterate.errors import ArchitectureError
from abliterate.models.live_model import LiveModel
from abliterate.projection import normalize
from abliterate.studies.clusters import words as room
from abliterate.studies.clusters.run import Clusters
from abliterate.studies.clusters.words import centroid_words, texts_of
from abliterate.studies.features.words import vocabulary, word_vectors
from fixtures.tiny_chat import TINY, tiny_chat

TEXTS = [f"{first} {second}" for first in ("kettle", "boat", "bread") for second in ("garden", "forest", "harbour", "window", "pencil", "ladder", "mirror", "pillow", "basket", "candle", "hammer", "violin", "carpet", "saddle", "anchor", "button", "tunnel", "island")]  # fmt: skip


@pytest.fixture(scope="module")
def live() -> LiveModel:
    return LiveModel.of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval(), tiny_chat())


def rows_of_words(live: LiveModel, *words: str) -> torch.Tensor:
    known = vocabulary(TEXTS)
    vectors = word_vectors(live, known)
    gain = dict(live.model.base_model.named_parameters())["norm.weight"].detach()
    return torch.stack([normalize((vectors[known.places[word]] - vectors.mean(0)) / gain) for word in words])


def test_a_centroid_that_is_a_word_is_said_by_it(live: LiveModel) -> None:
    found = centroid_words(live, rows_of_words(live, "kettle", "boat"), TEXTS)
    assert found is not None
    assert [one[0] for one in found.words] == ["kettle", "boat"]
    assert [len(one) for one in found.words] == [10, 10]
    assert found.vocabulary == 21
    alone = centroid_words(live, rows_of_words(live, "kettle"), TEXTS)
    assert alone is not None
    assert alone.words[0][0] == "kettle"


def test_where_nothing_can_be_said_nothing_is(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of_words(live, "kettle", "boat")
    assert centroid_words(live, rows, ["一二三", "kettle boat"]) is None

    def refuse(*given: object, **more: object) -> None:
        raise ArchitectureError("several lanes")

    monkeypatch.setattr(room, "explain", refuse)
    assert centroid_words(live, rows, TEXTS) is None


def test_texts_are_what_was_asked_and_heard(three: Clusters) -> None:
    assert texts_of(three.material)[:2] == ["phrase 0", "phrase 1"]
