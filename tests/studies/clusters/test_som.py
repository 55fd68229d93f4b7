"""Directions of a self-organising map."""

from __future__ import annotations

import torch

from abliterate.studies.clusters.som import som_directions


def test_a_map_of_one_neuron_is_the_difference_in_means() -> None:
    states = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)) + 4 * torch.eye(12)[0]
    calm = torch.randn(40, 12, generator=torch.Generator().manual_seed(1))
    (found,) = som_directions(states, calm, side=1)
    mean = states.double().mean(0) - calm.double().mean(0)
    assert float(torch.nn.functional.cosine_similarity(found, mean, dim=0)) > 0.99


def test_neurons_come_by_how_many_states_they_win() -> None:
    axes = 5 * torch.eye(12)[:2]
    states = torch.cat([axes[0].expand(30, -1), axes[1].expand(10, -1)]) + 0.1 * torch.randn(
        40, 12, generator=torch.Generator().manual_seed(0)
    )
    found = som_directions(states, torch.zeros(4, 12), steps=2000)
    assert float(torch.nn.functional.cosine_similarity(found[0], axes[0].double(), dim=0)) > 0.9
    assert len(found) <= 16
    assert torch.equal(found, som_directions(states, torch.zeros(4, 12), steps=2000))
