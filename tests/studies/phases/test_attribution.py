"""What single neurons add."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.phases.attribution import (
    Neurons,
    attributed,
    concentration,
    integrated,
    kept_score,
    vector_of,
)
from fixtures.planted import SAFE

PROMPTS = [(3, 5, 9), (4, 8, 11, 12), (21, 5), (30, 31, 32, 33, 34), (40, 6, 2), (50, 51, 52), (60, 61), (70, 71, 72)]


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=0))


def test_integrated_gradients_sum_to_the_change(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, _direction = planted
    for layer in live.model.model.layers:
        torch.nn.init.normal_(layer.mlp.down_proj.weight, std=0.3)
    neurons = Neurons.of(live)
    calm = neurons.activations(PROMPTS[4:])
    _, check = integrated(neurons, PROMPTS[:4], calm, [SAFE])
    assert check.error <= 0.05
    total = attributed(neurons, PROMPTS[:4], calm, [SAFE]).total
    assert len(total) == 4 * 48
    vector = vector_of(neurons, total, torch.ones_like(total), 2, 10_000)
    written = sum(live.model.model.layers[layer].mlp.down_proj.weight.double().sum(1) for layer in (0, 1))
    assert torch.allclose(vector, written)
    with pytest.raises(InputError, match="no neuron below layer 0"):
        vector_of(neurons, total, torch.ones_like(total), 0, 10)
    left = kept_score(neurons, PROMPTS[:4], calm, [SAFE])
    assert left([]) == pytest.approx(1.0)
    assert left(range(len(total))) == pytest.approx(0.0, abs=1e-5)


def test_concentration_knows_one_neuron_and_many() -> None:
    assert concentration(torch.eye(100)[3]).half == 1
    even = concentration(torch.ones(100))
    assert even.half == 50
    assert even.gini == pytest.approx(0.0)
    assert even.participation == pytest.approx(100)
