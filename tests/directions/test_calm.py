"""The direction of over-refusal, turned away from that of refusal."""

from __future__ import annotations

import pytest
import torch

from abliterate.directions.calm import turned_away
from abliterate.directions.directions import Directions


def some(seed: int) -> Directions:
    rows = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows[:, 0] = 0  # as at the embedding, where the template's tokens do not differ
    return Directions(rows, (-2, -1), "projected")


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_what_lies_along_refusal_is_left_by_the_weight_and_all_else_stays(weight: float) -> None:
    w, r = some(1), some(2)
    turned = turned_away(w, r, weight)
    for layer in (1, 2):
        for position in (-2, -1):
            unit, before, after = (
                r.at(layer, position),
                w.difference(layer, position),
                turned.difference(layer, position),
            )
            assert float(unit @ after) == pytest.approx((1 - weight) * float(unit @ before), abs=1e-6)
            across = [one - (unit @ one) * unit for one in (before, after)]
            assert torch.allclose(*across, atol=1e-6)


def test_where_nothing_differs_there_is_still_no_direction() -> None:
    turned = turned_away(some(1), some(2))
    assert not turned.exists(0)
    assert (turned.positions, turned.method) == ((-2, -1), "projected")
