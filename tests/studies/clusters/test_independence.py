"""Representational independence."""

from __future__ import annotations

import torch

from abliterate.models.live_model import LiveModel
from abliterate.studies.clusters.independence import independence_of
from abliterate.studies.clusters.material import Material


def test_a_direction_changes_itself_and_not_those_apart_from_it(toy: tuple[LiveModel, Material, torch.Tensor]) -> None:
    live, material, refuse = toy
    tilted = torch.stack([refuse[0], refuse[1], refuse[0] + 0.5 * refuse[1]])
    found = independence_of(live, material.harmful[:3], tilted, ("one", "other", "between"))
    (own, apart, near), _, _ = found.change
    assert own > 1e-4
    assert apart < 1e-3 * own
    assert near > 10 * apart
    assert found.to_json()["names"] == ["one", "other", "between"]
