"""Representational independence: does ablating one direction change how far states lie along another?

    mean over layers of [cos(u, resid[l]) - cos(u, resid[l] | w ablated)]^2

of Wollschläger et al. 2025, arXiv 2502.17420, section 5. Small both ways is independent; orthogonal alone is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.places import capture_places
from abliterate.interventions import ablated
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text


@dataclass(frozen=True)
class Independence:
    """`change[u][w]`: how far ablating w moves the cosines of states with u, squared, mean over layers and prompts."""

    names: tuple[str, ...]
    change: tuple[tuple[float, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return names and table."""
        return {"names": list(self.names), "change": [list(row) for row in self.change]}


def independence_of(
    live: LiveModel, texts: Sequence[Text], directions: Float[Tensor, "directions d_model"], names: Sequence[str]
) -> Independence:
    """Return the table for some directions, from the states at the last token of some prompts."""
    unit = torch.nn.functional.normalize(directions.float(), dim=-1)

    def cosines() -> Float[Tensor, "texts layers directions"]:
        states = capture_places(live, texts, ("prompt_end",), range(1, live.architecture.depth + 1)).resid[:, :, 0]
        return torch.nn.functional.normalize(states.float(), dim=-1) @ unit.T

    usual = cosines()
    columns = []
    for row in unit:
        with ablated(live.model, row, architecture=live.architecture):
            columns.append((cosines() - usual).square().mean((0, 1)))
    table = torch.stack(columns, dim=1).tolist()
    return Independence(tuple(names), tuple(tuple(row) for row in table))
