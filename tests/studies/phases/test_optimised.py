"""The vector by optimisation, on a model whose safety direction is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.phases.optimised import Optimised, Optimising, Problem, optimised, optimised_each
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


def test_vectors_of_single_prompts_are_the_planted_one_and_do_not_hang_on_others(
    planted: tuple[LiveModel, torch.Tensor],
) -> None:
    live, direction = planted
    settings, targets = Optimising(steps=40), [(SAFE,)] * len(PROMPTS)
    each = optimised_each(live, 2, PROMPTS, targets, PROMPTS[:3], settings)
    assert each.shape == (len(PROMPTS), 64)
    assert sum(cosine(one, direction) for one in each) / len(each) > 0.5
    problem = Problem(live, 2, PROMPTS, targets, ())
    with torch.no_grad():
        before, after = (problem.scored(shift)[0] for shift in (torch.zeros(64), each.float()))
    assert bool((after > before).all())
    alone = optimised_each(live, 2, PROMPTS[:1], [(SAFE,)], PROMPTS[:1], settings)
    # The step is in the mean length of the states, which is another one here.
    assert cosine(alone[0], each[0]) > 0.98
    states = each.norm(dim=1)
    assert (
        float(states.max()) <= settings.clamp * Problem(live, 2, PROMPTS, [(SAFE,)] * len(PROMPTS), ()).length * 1.001
    )


def test_single_vectors_are_compared_with_each_other_and_with_the_common_one() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    found = Optimised(torch.tensor([1.0, 1.0], dtype=torch.float64), -9.0, -1.0, 0.1, rows)
    assert found.between == pytest.approx(0)
    assert found.with_common == pytest.approx(0.5**0.5)
    assert found.to_json()["single"] == 2
    assert replace(found, single=None).with_common is None
    assert replace(found, single=rows[:1]).between is None


def test_no_prompts_are_refused_and_no_gradient_too(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, _ = planted
    with pytest.raises(InputError, match="0 prompts with 0 safe continuations"):
        optimised(live, 2, [], [], [])
    with torch.no_grad():
        live.model.lm_head.weight.zero_()
    with pytest.raises(InputError, match="layer 2: the gradient"):
        optimised(live, 2, PROMPTS, [(SAFE,)] * len(PROMPTS), ())
