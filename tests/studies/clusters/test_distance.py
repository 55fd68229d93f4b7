"""How likely a state is among real ones."""

from __future__ import annotations

import torch

from abliterate.studies.clusters.distance import quantiles_among


def test_the_mean_is_in_the_middle_and_a_far_state_is_out() -> None:
    states = torch.randn(120, 80, generator=torch.Generator().manual_seed(0)) * torch.linspace(4, 0.1, 80)
    mean = states.mean(0)
    points = torch.stack([mean, mean + 40 * torch.eye(80)[0], mean + 30 * torch.eye(80)[79], states[3]])
    middle, far, beside, own = quantiles_among(points, states).tolist()
    assert middle == 0
    assert far == 1
    assert beside == 1, "off the directions in which real states differ"
    assert 0 < own <= 1
