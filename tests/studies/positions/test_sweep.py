"""Curves of a planted score, and of a live model against one vector at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from abliterate.evaluation.statistics import Rate
from abliterate.interventions import added
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.studies.positions.listen import safe_sentence
from abliterate.studies.positions.run import Positions
from abliterate.studies.positions.sweep import (
    Said,
    best_layer,
    coherent_up_to,
    curve_of,
    curves_of,
    layers_to_try,
    openings_of,
    replies_at,
    score_of,
)
from abliterate.studies.replies import Unit
from abliterate.studies.scores import ROWS

WIDTH = 16
DIRECTION = torch.nn.functional.one_hot(torch.tensor(3), WIDTH).float()
PROMPTS = [(place,) for place in range(12)]


def planted(vectors: torch.Tensor, layers: Sequence[int], prompts: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """Refusal is what lies along one direction, most at layer 5."""
    at = torch.tensor([1.0 / (1 + abs(layer - 5)) for layer in layers])
    own = torch.tensor([0.1 * tokens[0] for tokens in prompts])
    return torch.tanh(at * (vectors @ DIRECTION))[:, None] + own


def test_a_planted_direction_is_robust_turned_round_flipped_and_another_none() -> None:
    alphas = (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert curve_of(planted, DIRECTION, 5, PROMPTS, alphas).verdict() == "robust"
    assert curve_of(planted, -DIRECTION, 5, PROMPTS, alphas).verdict() == "flipped"
    other = curve_of(planted, DIRECTION.roll(1) + 0.01 * DIRECTION, 5, PROMPTS, alphas)
    assert other.verdict(noise=0.02) == "none"
    together = curves_of(planted, torch.stack([DIRECTION, -DIRECTION]), 5, PROMPTS, alphas)
    assert [one.verdict() for one in together] == ["robust", "flipped"]
    assert together[0].gain(0.0).value == 0


def test_the_layer_of_the_greatest_effect_is_chosen() -> None:
    layer, effects = best_layer(planted, dict.fromkeys(range(2, 9), DIRECTION), PROMPTS)
    assert layer == 5
    assert max(effects, key=lambda one: effects[one]) == 5


@pytest.mark.parametrize("depth", [2, 3, 8, 24, 80])
def test_layers_that_are_tried_are_few_and_below_four_fifths(depth: int) -> None:
    tried = layers_to_try(depth)
    assert tried
    assert all(1 <= layer < max(0.8 * depth, 2) for layer in tried)
    assert len(tried) <= 15


def test_many_rows_at_once_score_as_one_by_one(tiny_live: LiveModel, small: Positions) -> None:
    score = score_of(tiny_live, openings_of(small.heard))
    prompts = [case.text.tokens for case in small.heard["reply-open"].harmful[:3]]
    vector = small.cells["reply-open/1-harm"].vector(4).float()
    scales = torch.linspace(-1, 1, ROWS + 3)
    together = score(scales[:, None] * vector, [4] * len(scales), prompts)
    for row in (0, ROWS, ROWS + 2):
        with added(tiny_live.model, vector, 4, scale=float(scales[row])):
            alone = score_of(tiny_live, openings_of(small.heard))(torch.zeros(1, len(vector)), [4], prompts)
        torch.testing.assert_close(together[row], alone[0], atol=2e-2, rtol=1e-3)


def test_replies_are_made_until_they_fall_apart(tiny_live: LiveModel, small: Positions) -> None:
    unit = Unit.of(tiny_live, load_forms()["question"], load_phrases("builtin:phrases-tiny").first(3), "harmful")
    huge = 50 * small.cells["question/1-harm"].vector(5).float()
    found = replies_at(tiny_live, unit, huge, 5, safe_sentence)
    assert found[0.0].safe == Rate(3, 3)
    assert found[0.0].incoherent == Rate(0, 3)
    assert 2.0 not in found
    assert coherent_up_to(found) == 0


def test_alphas_count_up_to_the_first_that_breaks() -> None:
    def said(broken: int) -> Said:
        return Said(Rate(0, 20), Rate(broken, 20))

    assert coherent_up_to({0.0: said(0), -1.0: said(0), 1.0: said(2), -2.0: said(9), 2.0: said(0)}) == 1.0
    assert coherent_up_to({0.0: said(10), -1.0: said(11), 1.0: said(12)}) == 1.0
