"""The figures of an SAE on states that it has not seen."""

from __future__ import annotations

import pytest
import torch

from abliterate.models.live_model import LiveModel
from abliterate.studies.features.corpus import Corpus
from abliterate.studies.features.quality import components_of, loss_of, quality_of, unexplained
from abliterate.studies.features.tokens import capture_tokens
from fixtures.features import random_sae, tied_sae


def test_variance_left_over_is_a_share_of_that_around_the_mean() -> None:
    states = torch.randn(500, 8, generator=torch.Generator().manual_seed(1)) + 5
    mean = states.mean(0)
    assert unexplained(states, lambda rows: rows, mean) == 0
    assert unexplained(states, lambda rows: mean.expand_as(rows), mean) == pytest.approx(1)
    assert unexplained(states, lambda rows: rows + 1, mean) == pytest.approx(
        8 * 500 / float((states - mean).square().sum()), rel=1e-4
    )


def test_components_are_those_of_the_greatest_variance() -> None:
    drawn = torch.randn(2000, 6, generator=torch.Generator().manual_seed(2)) * torch.tensor([9.0, 5, 1, 1, 1, 1])
    mean, found = components_of(drawn + 3, 2)
    assert torch.allclose(mean, drawn.mean(0) + 3, atol=1e-4)
    assert abs(float(found[0, 0])) > 0.99
    assert abs(float(found[1, 1])) > 0.99
    assert torch.allclose(found @ found.T, torch.eye(2), atol=1e-5)


def test_a_perfect_description_costs_nothing_and_the_mean_costs_much(tiny_live: LiveModel, corpus: Corpus) -> None:
    spans = [one.span for one in corpus.part("report").passages][:4]
    held_out = capture_tokens(tiny_live, spans, 5).states
    train = capture_tokens(tiny_live, [one.span for one in corpus.part("train").passages], 5).states
    rows = torch.eye(160)
    perfect = tied_sae(torch.cat([rows, -rows]), 320, 5)  # every state is a sum of its own components
    found = quality_of(tiny_live, perfect, 5, train, held_out, spans)
    assert found.fvu < 1e-6
    assert found.recovered == pytest.approx(1, abs=1e-3)
    assert found.loss["mean"].value > found.loss["model"].value
    poor = quality_of(tiny_live, random_sae(160, 32, layer=5), 5, train, held_out, spans)
    assert poor.fvu > found.pca
    assert poor.to_json()["loss"]["described"]["count"] == 4


def test_the_loss_of_a_text_is_that_of_what_follows_its_places(tiny_live: LiveModel, corpus: Corpus) -> None:
    span = corpus.passages[0].span
    with torch.no_grad():
        said = tiny_live.model(torch.tensor([span.tokens])).logits[0].log_softmax(-1)
    own = [place for place in span.places if place + 1 < len(span.tokens)]
    expected = -sum(float(said[place, span.tokens[place + 1]]) for place in own) / len(own)
    assert loss_of(tiny_live, [span], 5, lambda rows: rows).value == pytest.approx(expected, abs=1e-4)
