"""How a point is chosen: each way is one that a front knows, and the usual limit is one that it keeps."""

from __future__ import annotations

import torch

from abliterate.search.choice import PICKS, USUAL_MAX_KL
from abliterate.search.front import Front, Point
from abliterate.search.variables import Variables


def test_each_way_chooses_and_the_first_is_the_usual_one() -> None:
    figures = [(30, 0.0), (20, 0.9 * USUAL_MAX_KL), (5, 1.5 * USUAL_MAX_KL), (4, 5 * USUAL_MAX_KL)]
    points = [Point(Variables({}, torch.zeros(0)), 1.0, refusals, 0, 100, kl) for refusals, kl in figures]
    front = Front(tuple(points), Point(Variables({}, torch.zeros(0)), None, 60, 0, 100, 0.0))
    assert [front.choose(pick=way) for way in PICKS] == [points[1], points[2]]
    assert front.choose() is front.choose(pick=PICKS[0])
