"""The first-order estimate of what an ablation does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from abliterate.architectures.architecture import find_architecture
from abliterate.directions import attribution
from abliterate.directions.attribution import attributed_bypass
from abliterate.directions.scores import final_states, prepare_openings, refusal_score
from abliterate.interventions import ablated_rows
from abliterate.models.gradient_memory import MemoryPlan
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.projection import normalize
from fixtures.models import FAMILIES, random_model
from fixtures.tiny_chat import tiny_chat

SEQUENCES = [[3, 14, 15, 9], [3, 14, 26, 5, 35], [3, 14, 8], [3, 14, 8, 8, 8, 8, 1, 2]]
OPENINGS = [(7, 8, 9), (6, 5), (7, 2)]
EPSILON = 1e-2


def live_of(name: str, batch_size: int = 2) -> LiveModel:
    model = random_model(name)
    return LiveModel(model, tiny_chat(), find_architecture(model), batch_size)


def ablated_score(live: LiveModel, direction: Tensor, strength: float, openings: Sequence[tuple[int, ...]]) -> float:
    with ablated_rows(live.model, direction[None, None], None, live.architecture, strengths=torch.tensor([strength])):
        opening_batch = prepare_openings(live.model, SEQUENCES, openings)
        return float(refusal_score(Head(live.model), opening_batch, final_states(live.model, opening_batch)).mean())


@pytest.mark.parametrize("name", [*FAMILIES])
def test_the_estimate_is_the_slope_of_the_ablation(name: str) -> None:
    """Central differences of the exact ablation at strength 0, with gains, biases and tied heads as the model has them."""
    live = live_of(name)
    torch.manual_seed(1)
    directions = torch.stack([normalize(torch.randn(live.architecture.d_model)) for _ in range(3)])
    estimates = attributed_bypass(live, directions, SEQUENCES, OPENINGS)
    for direction, estimate in zip(directions, estimates, strict=True):
        up, down = (ablated_score(live, direction, sign * EPSILON, OPENINGS) for sign in (1, -1))
        before = ablated_score(live, direction, 0.0, OPENINGS)
        slope = (up - down) / (2 * EPSILON)
        assert abs(slope) > 1e-3
        assert estimate - before == pytest.approx(slope, rel=0.03, abs=2e-3)


def test_layers_that_run_again_on_the_way_back_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    live = live_of("llama")
    directions = torch.stack([normalize(torch.randn(live.architecture.d_model)) for _ in range(2)])
    plainly = attributed_bypass(live, directions, SEQUENCES, OPENINGS)
    monkeypatch.setattr(attribution, "plan_memory", lambda model: MemoryPlan(4, True))
    assert attributed_bypass(live, directions, SEQUENCES, OPENINGS) == pytest.approx(plainly, abs=1e-4)


def test_batches_do_not_matter_and_nothing_is_left_behind() -> None:
    live = live_of("llama", batch_size=1)
    directions = torch.stack([normalize(torch.randn(live.architecture.d_model)) for _ in range(2)])
    one_by_one = attributed_bypass(live, directions, SEQUENCES, OPENINGS)
    together = attributed_bypass(live_of("llama", batch_size=4), directions, SEQUENCES, OPENINGS)
    assert one_by_one == pytest.approx(together, abs=1e-4)
    assert all(parameter.grad is None for parameter in live.model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in live.model.modules())
