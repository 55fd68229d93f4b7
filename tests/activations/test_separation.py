"""How well directions part two sides: what is apart is told apart, what is alike is not, and signs and lengths play their part."""

from __future__ import annotations

import pytest
import torch

from abliterate.activations.capture import Activations
from abliterate.activations.geometry import geometry
from abliterate.activations.separation import Separation, along, cosine_of, held_out
from abliterate.directions.directions import Directions
from abliterate.directions.methods import difference_in_means
from abliterate.errors import InputError


def sides(shift: float, count: int = 40, seed: int = 0) -> tuple[Activations, Activations]:
    """Two clouds at two positions and three layers, `shift` standard deviations apart along one axis from layer 1 on."""
    generator = torch.Generator().manual_seed(seed)
    harmful, harmless = (torch.randn(count, 2, 3, 6, generator=generator) for _ in range(2))
    harmful[:, :, 1:, 2] += shift
    harmful[:, :, 0] = harmless[:, :, 0] = 1.0
    return Activations(harmful, (-2, -1)), Activations(harmless, (-2, -1))


def test_sides_far_apart_are_parted_and_halves_agree() -> None:
    found = sides(20.0)[0].separation(sides(20.0)[1])
    assert (found.auroc[:, 1:] == 1).all()
    assert (found.cohens_d[:, 1:] > 10).all()
    assert (found.cosine_of_halves[:, 1:] > 0.99).all()
    assert all(found.values(name)[:, 0].isnan().all() for name in ("auroc", "cohens_d", "cosine_of_halves"))


def test_on_unseen_prompts_there_is_nothing_to_see_where_there_is_nothing() -> None:
    harmful, harmless = sides(0.0, count=200)
    found = harmful.separation(harmless)
    assert (found.auroc[:, 1:] - 0.5).abs().max() < 0.08
    seen = difference_in_means(harmful, harmless).separation(harmful, harmless)
    assert (seen.auroc[:, 1:] > found.auroc[:, 1:]).all()  # a direction fits the prompts that made it


def test_it_is_that_of_the_report() -> None:
    harmful, harmless = sides(1.0)
    shown = geometry(harmful, harmless, -1)
    auc, d = held_out(harmful.resid, harmless.resid)
    assert torch.equal(auc.nan_to_num(), shown.auc.nan_to_num())
    assert torch.equal(d.nan_to_num(), shown.d.nan_to_num())


def test_the_opposite_direction_orders_the_other_way_and_lengths_do_not_matter() -> None:
    harmful, harmless = sides(1.0)
    directions = difference_in_means(harmful, harmless).differences
    auc, d = along(directions, harmful.resid, harmless.resid)
    turned, opposite = along(-directions, harmful.resid, harmless.resid)
    longer, same = along(7 * directions, harmful.resid, harmless.resid)
    assert torch.allclose(turned[:, 1:], 1 - auc[:, 1:])
    assert torch.allclose(opposite[:, 1:], -d[:, 1:])
    assert torch.allclose(longer[:, 1:], auc[:, 1:])
    assert torch.allclose(same[:, 1:], d[:, 1:])


def test_cosines() -> None:
    one = torch.randn(2, 3, 6)
    assert torch.allclose(cosine_of(one, 3 * one), torch.ones(2, 3, dtype=torch.float64))
    assert torch.allclose(cosine_of(one, -one), -torch.ones(2, 3, dtype=torch.float64))
    assert cosine_of(one, torch.zeros(2, 3, 6)).isnan().all()


def test_the_best_place_is_where_a_measure_is_highest_and_frames_and_plots_hold_all() -> None:
    values = torch.tensor([[torch.nan, 0.6, 0.9], [torch.nan, 0.7, 0.8]])
    found = Separation((-2, -1), values, -values, values.flip(0))
    assert found.best("auroc") == (-2, 2)
    assert found.best("cohens_d") == (-2, 1)
    assert found.to_pandas().loc[(-1, 2), "auroc"] == pytest.approx(0.8)
    assert [one.name for one in found.plot("cosine_of_halves").data] == ["position -2", "position -1"]
    assert repr(found) == "Separation(resid[0..2], positions -2..-1, AUROC up to 0.90)"
    assert "layer 1: AUROC 0.60" in found._repr_html_()
    with pytest.raises(InputError, match="measure 'auc': unknown; choose among auroc, cohens_d, cosine_of_halves"):
        found.plot("auc")


def test_what_cannot_be_compared_is_refused() -> None:
    harmful, harmless = sides(1.0)
    with pytest.raises(InputError, match="3 and 40 prompts cannot be halved; give at least 4 a side"):
        harmful[:3].separation(harmless)
    with pytest.raises(InputError, match="capture both with one model"):
        harmful.separation(Activations(harmless.resid[:, :, :2], (-2, -1)))
    with pytest.raises(InputError, match="position -2 was not captured"):
        harmful.separation(Activations(harmless.resid[:, 1:], (-1,)))
    with pytest.raises(InputError, match="capture with the model that they are of"):
        Directions(torch.randn(2, 3, 5), (-2, -1), "x").separation(harmful, harmless)
