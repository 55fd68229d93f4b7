"""An SAE of the tiny model, end to end: the feature that parts refused from answered prompts best, its words, and it weakened."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from abliterate.interventions import amplified
from abliterate.models.generation import generate
from abliterate.models.live_model import LiveModel
from abliterate.replies.refusals import is_refusal
from abliterate.studies.features.corpus import Corpus, corpus_of, prompts_of
from abliterate.studies.features.rows import rows_of
from abliterate.studies.features.run import study
from abliterate.studies.features.train import Plan
from abliterate.studies.features.trained import train_on
from abliterate.studies.features.words import stem, vocabulary, words_of
from fixtures.tiny_chat import TINY

pytest.importorskip("sae_lens", reason="sae-lens is not installed (extra features)")

SPECS = (str(TINY / "harmful.txt"), str(TINY / "harmless.txt"))


def words_of_refusals(corpus: Corpus) -> set[str]:
    """Stems that stand in a tenth of the refusals and in hardly any answer."""
    sides = {side: [one for one in corpus.passages if one.refused == side] for side in (True, False)}
    held = {
        side: Counter(word for one in own for word in {stem(word) for word in words_of(one.said)})
        for side, own in sides.items()
    }
    often, seldom = 0.1 * len(sides[True]), 0.02 * len(sides[False])
    return {word for word, count in held[True].items() if count > often and held[False][word] < seldom}


def refusals(live: LiveModel, prompts: list[str]) -> int:
    """How many of the prompts are refused."""
    replies = generate(live.model, live.tokenizer, live.chat.encode(prompts), 16, batch_size=live.batch_size)
    return sum(map(is_refusal, live.tokenizer.batch_decode(replies, skip_special_tokens=True)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_feature_of_refusal_has_its_words_and_acts(tiny_live: LiveModel) -> None:
    corpus = corpus_of(tiny_live, SPECS, prompts_of(SPECS, 320), 24)
    sae = train_on(tiny_live, "tiny", corpus, 5, Plan(64, 8, 20, 128, 0), 100_000)
    assert sae.quality.fvu <= 0.3
    assert sae.quality.alive >= 0.5
    rows = rows_of(sae.sae, 5, "sae")
    found = study(tiny_live, rows, corpus, vocabulary(corpus.texts))
    best = int(found.refused["prompt_end"].nan_to_num(0).argmax())
    assert float(found.refused["prompt_end"][best]) >= 0.95
    own = words_of_refusals(corpus)
    assert {"sorry", "cannot"} <= own
    assert {stem(word) for word in found.explained.words[best]} & own

    prompts = [one.prompt for one in corpus.part("select", "report").passages if one.refused]

    def weakened(vector: torch.Tensor) -> int:
        with amplified(tiny_live.model, vector, 5, -1.0, tiny_live.architecture, offset=sae.sae.decoder_bias):
            return refusals(tiny_live, prompts)

    drawn = torch.randperm(len(found.rows), generator=torch.Generator().manual_seed(0)).tolist()
    others = [weakened(found.rows.vectors[[place]]) for place in drawn[:6] if place != best][:5]
    assert weakened(found.rows.vectors[[best]]) < min(others)
