"""Gradient points: from a prompt's state up to where the model refuses, and down to where it answers.

    h <- h +- eta |h0| g / |g|,  g = grad f,  at most 4 steps, no further than .2 |h0|

The walk up ends as soon as f > 0 and the walk down as soon as f < 0; each takes one step at least. `plain` steps by the
gradient itself. The prompt's direction is the unit vector from the point where it answers to the one where it refuses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from abliterate.projection import ZERO_LENGTH
from abliterate.studies.clusters.margin import Margin
from abliterate.studies.clusters.options import Step

ETA = 0.05
STEPS = 4
"""Ten steps of .02 gave on Qwen2.5-0.5B-Instruct directions at a cosine of .993 with these, and took twice as long."""

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


def walks_of(margin: Margin, step: Step = "scaled") -> list[Walk]:
    """Return the walks of each prompt, both from one first gradient."""
    start = margin.states.float()
    values, gradients = margin.gradients(start)
    ends, series = [], []
    for sign in (1.0, -1.0):
        end, along = walked(margin, start, gradients, values, sign, step)
        ends.append(end.cpu())
        series.append(along)
    return [
        Walk(start[row].cpu(), gradients[row].cpu(), ends[0][row], ends[1][row], series[0][row], series[1][row])
        for row in range(len(start))
    ]


def walked(
    margin: Margin,
    start: Float[Tensor, "prompts d_model"],
    gradients: Float[Tensor, "prompts d_model"],
    values: Float[Tensor, " prompts"],
    sign: float,
    step: Step,
) -> tuple[Float[Tensor, "prompts d_model"], list[tuple[float, ...]]]:
    """Return where one walk of each prompt ends, and f along it. A prompt without a gradient stays where it is."""
    lengths, here = start.norm(dim=-1, keepdim=True), start.clone()
    series = [[value] for value in values.tolist()]
    there, moving = sign * values > 0, usable(values, gradients)
    for number in range(STEPS):
        own = moving.nonzero().flatten()
        if not len(own):
            break
        slope, reach = gradients[own], FURTHEST * lengths[own]
        ahead = slope if step == "plain" else ETA * lengths[own] * slope / slope.norm(dim=-1, keepdim=True)
        moved = here[own] + sign * ahead - start[own]
        far = moved.norm(dim=-1, keepdim=True)
        here[own] = start[own] + moved * (reach / far).clamp(max=1.0)
        # Prompts that have ended are not run again.
        part = margin if len(own) == len(start) else margin.part(own.tolist())
        if number == STEPS - 1 or bool(there[own].all()):  # the last step: no gradient is needed any more
            found = part.values(here[own])
        else:
            found, slope = part.gradients(here[own])
        gradients = gradients.index_copy(0, own, slope)
        for row, value in zip(own.tolist(), found.tolist(), strict=True):
            series[row].append(value)
        ended = there[own] | (sign * found > 0) | (far >= reach * (1 - 1e-6)).flatten()
        moving[own] = ~ended & usable(found, slope)
    return here, [tuple(one) for one in series]


def usable(values: Float[Tensor, " prompts"], gradients: Float[Tensor, "prompts d_model"]) -> Bool[Tensor, " prompts"]:
    """Return which prompts have a gradient that is a number, and not zero."""
    size = gradients.norm(dim=-1)
    found: Tensor = torch.isfinite(values) & torch.isfinite(size) & (size >= ZERO_LENGTH)
    return found
