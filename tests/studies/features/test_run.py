"""Rows explained and looked for: planted rows on a real model, rows of no layer, dead ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.features.corpus import Corpus
from abliterate.studies.features.rows import Rows, read_rows, rows_of
from abliterate.studies.features.run import explain, study
from abliterate.studies.features.words import vocabulary, word_vectors
from fixtures.features import random_sae, tied_sae


def test_rows_that_are_words_are_named_by_them(tiny_live: LiveModel, corpus: Corpus) -> None:
    words = vocabulary(corpus.texts)
    vectors = word_vectors(tiny_live, words)
    noise = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(4))
    planted = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1) + 0.3 * noise / vectors.shape[1] ** 0.5
    gain = dict(tiny_live.model.base_model.named_parameters())["norm.weight"].detach()
    found = explain(tiny_live, planted / gain, words, count=1)
    assert sum(own == (word,) for own, word in zip(found.words, words.words, strict=True)) >= 0.95 * len(words)
    assert found.information > 0


def test_the_length_of_a_row_does_not_count(tiny_live: LiveModel, corpus: Corpus) -> None:
    rows = torch.randn(4, 160, generator=torch.Generator().manual_seed(1))
    words = vocabulary(corpus.texts)
    scale = torch.tensor([[30.0], [5.0], [60.0], [9.0]])
    assert explain(tiny_live, 20 * rows, words).words == explain(tiny_live, scale * rows, words).words


@pytest.mark.parametrize(
    "rows", [torch.zeros(1, 160), torch.full((1, 160), torch.nan), torch.ones(2, 7), torch.ones(0, 160)]
)
def test_rows_that_mean_nothing_are_refused(tiny_live: LiveModel, corpus: Corpus, rows: torch.Tensor) -> None:
    with pytest.raises(InputError):
        explain(tiny_live, rows, vocabulary(corpus.texts))
    with pytest.raises(InputError, match="choose among"):
        explain(tiny_live, torch.ones(1, 160), vocabulary(corpus.texts), rule="first")


def test_directions_are_looked_for_at_their_layers(tiny_live: LiveModel, corpus: Corpus, directions_file: Path) -> None:
    rows = read_rows(directions_file, 160)
    found = study(tiny_live, rows, corpus, vocabulary(corpus.texts), count=5)
    assert found.tested is not None
    assert found.tested.texts == len(corpus.part("report"))
    five = rows.names.index("resid.5")
    assert float(found.refused["prompt_end"][five]) > 0.95
    assert found.rows.names[found.order[0]] in rows.names
    assert all(found.top_texts(five))
    assert all(len(own) == 5 for own in found.explained.words)


def test_features_that_never_fire_are_named_and_have_no_words(tiny_live: LiveModel, corpus: Corpus) -> None:
    sae = random_sae(160, 30, layer=5, active=2)
    sae.encoder_bias[[4, 9]] = -1e6
    found = study(tiny_live, rows_of(sae, 5, "sae"), corpus, vocabulary(corpus.texts), count=3)
    assert {"4", "9"} <= set(found.dead)
    assert len(found.explained) == len(found.rows) == 30 - len(found.dead)
    assert "never fire in these texts" in found.notes[0]
    assert found.activity is not None
    assert bool((found.activity.rates > 0).all())
    dead = tied_sae(torch.randn(3, 160), 1, 5)
    dead.encoder_bias[:] = -1e6
    with pytest.raises(InputError, match="none of its 3 rows fires"):
        study(tiny_live, rows_of(dead, 5, "sae"), corpus, vocabulary(corpus.texts))


def test_one_row_has_the_nearest_words_and_one_of_no_layer_words_alone(tiny_live: LiveModel, corpus: Corpus) -> None:
    rows = Rows("one", torch.randn(1, 160, generator=torch.Generator().manual_seed(8)), ("learned",), (None,))
    found = study(tiny_live, rows, corpus, vocabulary(corpus.texts), count=4)
    assert found.explained.rule == "nearest"
    assert found.activity is None
    assert found.top_texts(0) == ()
    assert any("words alone" in note for note in found.notes)
    assert any("none to compete with" in note for note in found.notes)
