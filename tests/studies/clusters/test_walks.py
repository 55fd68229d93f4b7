"""Walks along the gradient: where they end, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from abliterate.studies.clusters.margin import Margin
from abliterate.studies.clusters.walks import FURTHEST, STEPS, Walk, walks_of

START = torch.tensor([10.0, 0.0, 0.0])


class Slope(Margin):
    """Stands for a margin: f of each prompt and its gradient are functions of its state; `ran` counts prompts that were run."""

    def __init__(self, *values: Callable[[torch.Tensor], torch.Tensor], ran: list[int] | None = None) -> None:
        self._functions = values
        self.ran = [] if ran is None else ran

    @property
    def states(self) -> torch.Tensor:
        return START.repeat(len(self._functions), 1)

    def part(self, prompts: Sequence[int]) -> Margin:
        return Slope(*(self._functions[place] for place in prompts), ran=self.ran)

    def values(self, states: torch.Tensor) -> torch.Tensor:
        return self._each(states).detach()

    def gradients(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        here = states.clone().requires_grad_()
        found = self._each(here)
        (gradient,) = torch.autograd.grad(found.sum(), [here])
        return found.detach(), gradient

    def _each(self, states: torch.Tensor) -> torch.Tensor:
        self.ran.append(len(states))
        return torch.stack([value(state) for value, state in zip(self._functions, states, strict=True)])


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


def test_prompts_that_have_ended_are_not_run_again_and_leave_the_others_as_they_are() -> None:
    """They end in another order than they stand in, on both walks, and one has no gradient at all."""
    values: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda state: state[1] + 1.2,
        lambda state: (0 * state).sum() + 1,
        lambda state: state[2] ** 2 + 2 * state[2] - 0.4,
        lambda state: state[1] - 0.7 * state[2] + 0.3,
    ]
    together = Slope(*values)
    for found, value in zip(walks_of(together, "scaled"), values, strict=True):
        alone = walked(value)
        assert (found.up, found.down) == (alone.up, alone.down)
        assert torch.equal(torch.stack([found.point, found.anchor]), torch.stack([alone.point, alone.anchor]))
    assert together.ran[0] == 4
    assert set(together.ran[1:]) >= {3, 1}
    assert max(together.ran[1:]) == 3
