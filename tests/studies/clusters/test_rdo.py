"""A direction by gradient training, on the toy whose direction is known."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.clusters.rdo import (
    Lessons,
    cross_entropy,
    drawn_weights,
    losses_of,
    orthogonal,
    rdo,
    shares,
    stepped,
)
from fixtures.planted_clusters import ANSWER, LAYER, SAFE, axes, planted_clusters, planted_cone


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
    assert float(found.basis[0].norm()) == pytest.approx(1, abs=1e-5)
    assert found.to_json()["steps"] == 3


def cone_lessons(count: int) -> tuple[LiveModel, Lessons, torch.Tensor]:
    live, material, refuse = planted_cone()
    harmful, harmless = (2 * [text.tokens for text in some] for some in (material.harmful, material.harmless))
    start = refuse.sum(0)
    return live, Lessons(harmful[:count], harmless[:count], (SAFE,), start, 3.0, LAYER), refuse


def test_training_a_cone_lowers_its_loss_and_leaves_it_orthonormal() -> None:
    live, given, _ = cone_lessons(64)
    found = rdo(live, given, 2, tokens=1)
    assert torch.allclose(found.basis @ found.basis.T, torch.eye(2), atol=1e-5)
    assert len(found.losses) == 4
    assert sum(found.losses[2:]) < sum(found.losses[:2])
    assert found.to_json()["k"] == 2


def test_a_planted_cone_has_less_loss_than_those_that_lean_out_of_it() -> None:
    live, given, refuse = cone_lessons(8)
    usual = [(ANSWER,)] * 8
    weights = drawn_weights(2, torch.Generator().manual_seed(0))

    def loss(*rows: torch.Tensor) -> float:
        raw = torch.nn.functional.normalize(torch.stack(rows), dim=-1).requires_grad_()
        return stepped(live, given, raw, weights, range(8), usual, usual)

    planted = loss(*refuse)
    assert loss(refuse[0], axes(6)[5]) > 2 * planted
    assert loss(refuse.sum(0), refuse[0] - refuse[1]) > 2 * planted, "half of this one is outside"


def test_one_direction_is_a_cone_of_one() -> None:
    assert drawn_weights(1, torch.Generator()).shape == (0, 1)
    assert [(row.tolist(), list(own)) for row, own in shares(torch.zeros(0, 1), [7, 8, 9])] == [([1.0], [7, 8, 9])]
    row = torch.randn(1, 9)
    assert torch.equal(orthogonal(row), row), "Gram-Schmidt of one leaves it, bit for bit"


def test_each_prompt_is_tried_with_one_of_the_basis_and_one_that_was_drawn() -> None:
    weights = drawn_weights(3, torch.Generator().manual_seed(0))
    assert weights.shape == (8, 3)
    assert torch.allclose(weights.norm(dim=1), torch.ones(8))
    assert bool((weights >= 0).all()), "within the cone"
    batch = list(range(30, 46))
    parts = shares(weights, batch)
    assert sorted(one for _, own in parts[:3] for one in own) == batch
    assert sorted(one for _, own in parts[3:] for one in own) == batch
    assert [row.tolist() for row, _ in parts[:3]] == torch.eye(3).tolist()
    assert len(shares(weights, batch[:2])) == 4, "a direction without a prompt is left away"


def test_gram_schmidt_keeps_the_first_and_lengths_do_not_count() -> None:
    rows = torch.tensor([[2.0, 0.0, 0.0], [5.0, 1.0, 0.0], [1.0, 1.0, 4.0]])
    assert torch.allclose(
        orthogonal(rows), torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 4.0]]), atol=1e-6
    )


def test_a_cone_without_directions_is_refused() -> None:
    live, given, _ = cone_lessons(2)
    with pytest.raises(InputError, match="a cone of 0 directions"):
        rdo(live, given, 0)


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
