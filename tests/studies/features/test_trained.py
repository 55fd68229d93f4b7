"""From a corpus to an SAE: held out by prompt, the template once, whole on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.features.corpus import Corpus
from abliterate.studies.features.tokens import Span
from abliterate.studies.features.train import Plan
from abliterate.studies.features.trained import (
    budget,
    controls_of,
    results_of,
    settings_of,
    train_on,
    verdicts_of,
    within,
)


def test_tokens_end_where_the_budget_does() -> None:
    spans = [Span((1, 2, 3), (0, 1, 2)), Span((4, 5), (0, 1)), Span((6,), (0,))]
    assert [one.places for one in within(spans, 4)] == [(0, 1, 2), (0,)]
    assert within(spans, 100) == spans


def test_layers_and_budgets_are_checked_first(tiny_live: LiveModel, corpus: Corpus) -> None:
    for layer in (0, 8):
        with pytest.raises(InputError, match=r"an SAE is of resid\[1\] to resid\[7\]"):
            train_on(tiny_live, "tiny", corpus, layer, Plan(8, 2, 1, 8, 0), 100)
    with pytest.raises(InputError, match="the corpus has 100 tokens to learn 64 features"):
        train_on(tiny_live, "tiny", corpus, 5, Plan(64, 2, 1, 8, 0), 100)


@pytest.mark.filterwarnings("ignore")
def test_the_budget_is_told_before(tiny_live: LiveModel, corpus: Corpus) -> None:
    pytest.importorskip("sae_lens", reason="sae-lens is not installed (extra features)")
    prompts = [one.prompt for one in corpus.passages]
    told = budget(tiny_live, prompts, Plan(16, 2, 2, 32, 0), 300, 8)
    assert told.startswith(f"at most 300 tokens of {len(corpus.part('train'))} prompts, 19 steps, about 0.")
    with pytest.raises(InputError, match="tokens to learn 4096 features from"):
        budget(tiny_live, prompts, Plan(4096, 2, 2, 32, 0), 10_000, 8)


@pytest.mark.filterwarnings("ignore")
def test_an_sae_of_the_tiny_model(tiny_live: LiveModel, corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("sae_lens", reason="sae-lens is not installed (extra features)")
    found = train_on(tiny_live, "tiny", corpus, 5, Plan(64, 8, 20, 64, 0), 10_000, tmp_path / "left")
    assert found.quality.fvu < found.quality.pca
    assert found.quality.alive >= 0.5
    assert (found.sae.layer, found.sae.model) == (5, "tiny")
    assert (tmp_path / "left" / "states").stat().st_size == found.tokens * 160 * 4
    whole = len(corpus.part("train").passages[0].whole.places)
    assert found.tokens == whole + sum(len(one.span.places) for one in corpus.part("train").passages[1:])
    assert "of 10000 that were allowed" in found.notes[0]
    assert verdicts_of(found)[0].verdict == "shown"
    assert controls_of(found)["fvu_pca"] == found.quality.pca
    assert settings_of(found, corpus)["tokens"] == found.tokens
    assert results_of(found)["kind"] == "train"
    assert bool(torch.isfinite(found.sae.decoder).all())
