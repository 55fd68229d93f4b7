"""A direction by gradient training, on the toy whose direction is known."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.studies.clusters.rdo import Lessons, cross_entropy, losses_of, rdo
from fixtures.planted_clusters import LAYER, SAFE, planted_clusters


def lessons(start: torch.Tensor, count: int = 8) -> tuple[Lessons, object]:
    live, material, _ = planted_clusters(3, gated=False)
    harmful, harmless = ([text.tokens for text in some[:count]] for some in (material.harmful, material.harmless))
    return Lessons(harmful, harmless, (SAFE,), start, 3.0, LAYER), live


def test_training_lowers_the_loss_and_the_direction_stays_a_unit() -> None:
    _, _, refuse = planted_clusters(3, gated=False)
    start = refuse[0] + 0.8 * torch.eye(64)[3]
    given, live = lessons(start, 60)
    found = rdo(live, given, tokens=1)  # type: ignore[arg-type]
    assert len(found.losses) == 3, "an epoch of 48 prompts in batches of 16"
    assert found.losses[-1] < found.losses[0]
    assert float(found.vector.norm()) == pytest.approx(1, abs=1e-5)
    assert found.to_json()["steps"] == 3


def test_the_loss_is_its_three_parts() -> None:
    _, _, refuse = planted_clusters(3, gated=False)
    given, live = lessons(refuse[0], 2)
    empty = [(1,), (2,)]
    loss = losses_of(live, given, refuse[0], given.harmful, given.harmless, empty, empty)  # type: ignore[arg-type]
    assert float(loss.detach()) > 0


def test_cross_entropy_is_over_the_tokens_of_the_targets() -> None:
    log_probs = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]).log()
    assert float(cross_entropy(log_probs, [(), (0, 1)])) == pytest.approx(-float(torch.tensor([0.9, 0.8]).log().mean()))


def test_a_side_without_prompts_is_refused() -> None:
    given, live = lessons(torch.ones(64), 0)
    with pytest.raises(InputError, match="prompts of both sides"):
        rdo(live, given)  # type: ignore[arg-type]
