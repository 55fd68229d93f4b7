"""Separation and principal components: invariances, and the textbook's own values."""

from __future__ import annotations

import math

import pytest
import torch

from abliterate.activations.capture import Activations
from abliterate.activations.geometry import geometry, principal_components
from abliterate.activations.separation import plane_scores


def sides(shift: float, count: int = 40, seed: int = 0) -> tuple[Activations, Activations]:
    """Two clouds at two positions and three layers, `shift` standard deviations apart along one axis from layer 1 on."""
    generator = torch.Generator().manual_seed(seed)
    harmful, harmless = (torch.randn(count, 2, 3, 6, generator=generator) for _ in range(2))
    harmful[:, :, 1:, 2] += shift
    harmful[:, :, 0] = harmless[:, :, 0] = 1.0  # the embedding of a template's token is the same for all
    return Activations(harmful, (-2, -1)), Activations(harmless, (-2, -1))


def test_clouds_far_apart_are_told_apart_and_equal_ones_are_not() -> None:
    far, near = geometry(*sides(20.0), -1), geometry(*sides(0.0, count=200), -1)
    assert (far.auc[:, 1:] == 1).all()
    assert (far.d[:, 1:] > 10).all()
    # On unseen prompts there is nothing to see: a direction fitted to them would show some.
    assert (near.auc[:, 1:] - 0.5).abs().max() < 0.08


def test_where_all_are_equal_nothing_is_defined() -> None:
    one = geometry(*sides(1.0), -2).to_json(["a"] * 40, ["b"] * 40)
    assert [row[0] for row in one["separation"]["auc"]] == [None, None]
    assert one["pca"]["layers"][0]["explained"] == [None, None]
    assert one["pca"]["position"] == -2


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_separation_is_that_of_the_normal_distribution(shift: float) -> None:
    """AUC = Phi(d / sqrt 2) for two normal clouds."""
    harmful, harmless = (side.resid[:, :, 1].double() for side in sides(shift, count=2000))
    auc, d = plane_scores(harmful[::2], harmless[::2], harmful[1::2], harmless[1::2])
    normal = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(shift / math.sqrt(2)))
    assert auc.numpy() == pytest.approx(float(normal), abs=0.02)
    assert d.numpy() == pytest.approx(shift, abs=0.12)


def test_components_are_those_of_the_singular_vectors() -> None:
    generator = torch.Generator().manual_seed(3)
    harmful, harmless = (
        torch.randn(9, 5, generator=generator).double() + 1,
        torch.randn(7, 5, generator=generator).double(),
    )
    explained, one, other = principal_components(harmful, harmless)
    together = torch.cat([harmful, harmless])
    centred = together - together.mean(0)
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    assert torch.allclose(explained, (values**2 / (values**2).sum())[:2])
    assert torch.allclose(torch.cat([one, other]).abs(), (centred @ axes[:2].T).abs())
    assert (one.mean(0) >= other.mean(0)).all()


def test_a_rotation_of_the_stream_changes_nothing() -> None:
    harmful, harmless = sides(2.0)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    turned = geometry(*(Activations(side.resid @ turn, side.positions) for side in (harmful, harmless)), -1)
    one = geometry(harmful, harmless, -1)
    assert torch.allclose(one.auc[:, 1:], turned.auc[:, 1:], atol=1e-3)
    assert torch.allclose(one.harmful[1:], turned.harmful[1:], atol=1e-4)
