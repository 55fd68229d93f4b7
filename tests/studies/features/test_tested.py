"""The test of words: planted words pass, others do not, controls are of the same kind."""

from __future__ import annotations

import numpy
import torch

from abliterate.studies.features.tested import NEAR, counted, derangement, random_words, token_counts, word_test

TEXTS, FEATURES, WORDS = 120, 12, 200


def planted() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts that hold each word at random, and features that fire where a text holds their word."""
    drawn = torch.Generator().manual_seed(2)
    held = (torch.rand(TEXTS, WORDS, generator=drawn) < 0.2).float()
    lists = torch.arange(FEATURES)[:, None] * 7 + torch.tensor([[0, 1]])
    return held, lists, held[:, lists[:, 0]] > 0


def test_words_that_say_where_a_feature_fires_are_told_from_others() -> None:
    held, lists, fires = planted()
    found = word_test(fires, held, lists, lists + 1, torch.zeros(TEXTS, FEATURES))
    assert found.judged == FEATURES
    assert found.scores["words"].value > 0.9
    for name in ("random words", "words of another feature"):
        assert abs(found.scores[name].value - 0.5) < 0.06
    assert found.scores["top tokens"].value == 0.5
    assert found.apart
    assert found.above_random.interval[0] > 0.3
    wrong = word_test(fires, held, lists + 50, lists, torch.zeros(TEXTS, FEATURES))
    assert not wrong.apart
    assert wrong.scores["nearest words"].value > 0.9


def test_features_that_fire_everywhere_or_nowhere_are_not_judged() -> None:
    held, lists, fires = planted()
    fires = fires.clone()
    fires[:, 0], fires[:, 1] = True, False
    found = word_test(fires, held, lists, lists, torch.zeros(TEXTS, FEATURES))
    assert found.judged == FEATURES - 2
    assert found.by_feature.isnan().sum() == 2
    none = word_test(torch.zeros(TEXTS, FEATURES, dtype=torch.bool), held, lists, lists, torch.zeros(TEXTS, FEATURES))
    assert none.judged == 0
    assert not none.apart
    assert none.to_json()["scores"]["words"]["mean"] is None


def test_random_words_are_of_about_the_same_frequency_and_never_the_same() -> None:
    lists = torch.tensor([[0, 1, 100, 198, 199]])
    for seed in range(20):
        drawn = random_words(lists, WORDS, numpy.random.default_rng(seed))
        assert bool((drawn != lists).all())
        assert bool(((drawn - lists).abs() <= NEAR).all())
        assert int(drawn.min()) >= 0
        assert int(drawn.max()) < WORDS


def test_counts_are_of_different_words_and_tokens() -> None:
    held = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    assert counted(held, torch.tensor([[0, 2], [1, 2]])).tolist() == [[2.0, 1.0], [0.0, 1.0]]
    assert token_counts([[5, 5, 7], [9]], [[5, 7], [9], []]).tolist() == [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    for seed in range(5):
        own = derangement(9, numpy.random.default_rng(seed))
        assert sorted(own.tolist()) == list(range(9))
        assert not (own == numpy.arange(9)).any()
