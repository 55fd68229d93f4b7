"""Gradient points: from a prompt's state up to where the model refuses, and down to where it answers.

    h <- h +- eta |h0| g / |g|,  g = grad f,  at most 10 steps, no further than .2 |h0|

The walk up ends as soon as f > 0 and the walk down as soon as f < 0; each takes one step at least. `plain` steps by the
gradient itself. The prompt's direction is the unit vector from the point where it answers to the one where it refuses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.projection import ZERO_LENGTH
from abliterate.studies.clusters.margin import Margin
from abliterate.studies.clusters.options import Step

ETA = 0.02
STEPS = 10
FURTHEST = 0.2

SATURATED = 8.0
"""|f| beyond which a gradient is too small to have a direction."""


@dataclass(frozen=True)
class Walk:
    """One prompt: its state, the gradient there, both points, and f along both walks, the state's own first."""

    state: Float[Tensor, " d_model"]
    gradient: Float[Tensor, " d_model"]
    point: Float[Tensor, " d_model"]
    anchor: Float[Tensor, " d_model"]
    up: tuple[float, ...]
    down: tuple[float, ...]

    @property
    def value(self) -> float:
        """Return f of the prompt itself."""
        return self.up[0]

    @property
    def crossed(self) -> bool:
        """Return whether the point is refused and the anchor answered."""
        return self.up[-1] > 0 > self.down[-1]

    @property
    def broken(self) -> bool:
        """Return whether a number is NaN or infinite."""
        numbers = torch.stack([self.state, self.gradient, self.point, self.anchor])
        return not (bool(torch.isfinite(numbers).all()) and all(map(math.isfinite, (*self.up, *self.down))))

    @property
    def flat(self) -> bool:
        """Return whether there is no gradient to walk along."""
        return float(self.gradient.norm()) < ZERO_LENGTH

    @property
    def saturated(self) -> bool:
        """Return whether f is so far from 0 that its gradient says nothing."""
        return abs(self.value) > SATURATED

    def to_json(self) -> dict[str, Any]:
        """Return f along both walks."""
        return {"up": list(self.up), "down": list(self.down), "crossed": self.crossed}


def walk(margin: Margin, step: Step = "scaled") -> Walk:
    """Return the walks of one prompt, both from one first gradient."""
    start = margin.state.float()
    value, gradient = margin.gradient(start)
    if not math.isfinite(value) or not bool(torch.isfinite(gradient).all()) or float(gradient.norm()) < ZERO_LENGTH:
        return Walk(start.cpu(), gradient.cpu(), start.cpu(), start.cpu(), (value,), (value,))
    point, up = walked(margin, start, gradient, value, 1.0, step)
    anchor, down = walked(margin, start, gradient, value, -1.0, step)
    return Walk(start.cpu(), gradient.cpu(), point.cpu(), anchor.cpu(), up, down)


def walked(
    margin: Margin,
    start: Float[Tensor, " d_model"],
    gradient: Float[Tensor, " d_model"],
    value: float,
    sign: float,
    step: Step,
) -> tuple[Float[Tensor, " d_model"], tuple[float, ...]]:
    """Return where one walk ends, and f along it."""
    length = float(start.norm())
    here, values = start, [value]
    there_already = sign * value > 0
    for _ in range(1 if there_already else STEPS):
        if not 0 < float(gradient.norm()) < math.inf:
            break
        ahead = gradient if step == "plain" else ETA * length * gradient / gradient.norm()
        moved = here + sign * ahead - start
        far = float(moved.norm())
        here = start + moved * min(1.0, FURTHEST * length / far)
        if there_already:
            values.append(margin.value(here))
            break
        found, gradient = margin.gradient(here)
        values.append(found)
        if sign * found > 0 or far >= FURTHEST * length * (1 - 1e-6):
            break
    return here, tuple(values)
