"""Walks along the gradient: where they end, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from abliterate.studies.clusters.margin import Margin
from abliterate.studies.clusters.walks import FURTHEST, STEPS, Walk, walks_of

START = torch.tensor([10.0, 0.0, 0.0])


class Slope(Margin):
    """Stands for a margin: f and its gradient are functions of the state."""

    def __init__(self, value: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._function = value

    @property
    def states(self) -> torch.Tensor:
        return START[None]

    def part(self, prompts: Sequence[int]) -> Margin:
        raise AssertionError("one prompt has no parts")

    def values(self, states: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._function(state) for state in states]).detach()

    def gradients(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        here = states.clone().requires_grad_()
        found = torch.stack([self._function(state) for state in here])
        (gradient,) = torch.autograd.grad(found.sum(), [here])
        return found.detach(), gradient


def walked(value: Callable[[torch.Tensor], torch.Tensor], step: str = "scaled") -> Walk:
    (found,) = walks_of(Slope(value), step)  # type: ignore[arg-type]
    return found


def test_a_walk_ends_as_soon_as_it_has_crossed() -> None:
    found = walked(lambda state: state[1] + 0.7)
    assert found.crossed
    assert found.up == pytest.approx((0.7, 1.2))
    assert found.down == pytest.approx((0.7, 0.2, -0.3))
    assert torch.allclose(found.point - found.anchor, torch.tensor([0.0, 1.5, 0.0]), atol=1e-6)


def test_no_walk_goes_further_than_its_bound() -> None:
    found = walked(lambda state: state[1] + 5)
    assert not found.crossed
    assert len(found.down) - 1 == STEPS
    assert float((found.anchor - START).norm()) == pytest.approx(FURTHEST * 10)


def test_plain_steps_are_the_gradient() -> None:
    found = walked(lambda state: 0.3 * state[1] + 0.1, "plain")
    assert found.point[1] == pytest.approx(0.3)
    far = walked(lambda state: 50 * state[1] + 900, "plain")
    assert float((far.anchor - START).norm()) == pytest.approx(FURTHEST * 10)


def test_what_has_no_direction_says_so() -> None:
    assert walked(lambda state: (0 * state).sum()).flat
    assert walked(lambda state: state[1] * float("nan")).broken
    assert walked(lambda state: state[1] + 9).saturated
    assert walked(lambda state: state[1] + 1).to_json()["crossed"]
