"""The refusal score."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.directions.scores import final_states, prepare_openings, refusal_score
from abliterate.models.head import Head
from fixtures.models import random_model

SEQUENCES = [[3, 14, 15, 9], [3, 14, 26, 5, 35], [3, 14, 8]]


def brute_force(model: PreTrainedModel, openings: list[tuple[int, ...]]) -> torch.Tensor:
    """The definition, one token at a time: odds of the summed probability of all openings."""
    scores = []
    for sequence in SEQUENCES:
        total = 0.0
        for opening in openings:
            probability, tokens = 1.0, list(sequence)
            for token in opening:
                with torch.no_grad():
                    probability *= float(model(torch.tensor([tokens])).logits[0, -1].softmax(-1)[token])
                tokens.append(token)
            total += probability
        scores.append(torch.tensor(total / (1 - total)).log())
    return torch.stack(scores)


@pytest.mark.parametrize(
    "openings", [[(7,)], [(7,), (9,)], [(7, 8)], [(7, 8, 9), (7, 5), (4,)], [(7, 8, 9), (6, 5), (7, 2)]], ids=str
)
def test_refusal_score_is_the_log_odds_of_its_openings(openings: list[tuple[int, ...]]) -> None:
    model = random_model("llama")
    opening_batch = prepare_openings(model, SEQUENCES, openings)
    found = refusal_score(Head(model), opening_batch, final_states(model, opening_batch))
    assert torch.allclose(found[0], brute_force(model, openings), atol=1e-3)
