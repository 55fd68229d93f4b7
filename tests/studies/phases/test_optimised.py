"""The vector by optimisation, on a model whose safety direction is known."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.phases.optimised import Optimising, optimised
from fixtures.planted import SAFE

PROMPTS = [(3, 5, 9), (4, 8, 11, 12), (21, 5), (30, 31, 32, 33, 34), (40, 6, 2), (50, 51, 52), (60, 61), (70, 71, 72)]


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=0))


def test_the_optimised_vector_is_the_planted_one(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, direction = planted
    found = optimised(live, 2, PROMPTS, [(SAFE,)] * len(PROMPTS), (), Optimising(steps=200))
    assert cosine(found.vector, direction) >= 0.95
    assert found.after > found.before
    quick = optimised(live, 2, PROMPTS, [(SAFE,)] * len(PROMPTS), PROMPTS[:2])
    assert cosine(quick.vector, direction) > 0.5
    assert quick.divergence > 0


def test_no_prompts_are_refused_and_no_gradient_too(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, _ = planted
    with pytest.raises(InputError, match="0 prompts with 0 safe continuations"):
        optimised(live, 2, [], [], [])
    with torch.no_grad():
        live.model.lm_head.weight.zero_()
    with pytest.raises(InputError, match="layer 2: the gradient"):
        optimised(live, 2, PROMPTS, [(SAFE,)] * len(PROMPTS), ())
