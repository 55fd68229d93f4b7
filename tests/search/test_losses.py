"""Losses of an edit, and their gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.models.gradient_memory import frozen
from abliterate.search.losses import EditLosses
from abliterate.search.variables import Variables
from fixtures.search import ANSWERS, PLACES, gradients, random_edit, rows_of, ruler_of


def loss(edit_losses: EditLosses, edit: Variables) -> float:
    with frozen(edit_losses.model):
        turned = edit.copy()
        turned.direction.requires_grad_()
        refusals, divergence = edit_losses.backward(PLACES, ANSWERS, edit_losses.states(ANSWERS), turned, (0.7, 1.3))
    return 0.7 * refusals + 1.3 * divergence


def slope(edit_losses: EditLosses, edit: Variables, place: int, turn: torch.Tensor, step: float) -> float:
    """The loss's slope as one of the tensors is turned, by differences of fourth order."""
    ends = {}
    for steps in (-2, -1, 1, 2):
        moved = edit.copy()
        moved.tensors()[place].add_(steps * step * turn)
        ends[steps] = loss(edit_losses, moved)
    return (8 * (ends[1] - ends[-1]) - (ends[2] - ends[-2])) / (12 * step)


def test_gradients_are_those_of_finite_differences(model: PreTrainedModel) -> None:
    """On every family (gains behind writers, tied heads, biases), each strength by itself, to 1% of the gradient.

    Rounding moves the slopes by up to 0.3% of it: edits and log-probabilities are computed in float32. Hence steps as
    long as the loss is smooth, which is shorter along the direction.
    """
    model = model.double()
    edit_losses, architecture = ruler_of(model)
    edit = random_edit(architecture)
    with frozen(model):
        found = gradients(edit_losses, edit)
    for place, (tensor, gradient) in enumerate(zip(edit.tensors(), found, strict=True)):
        size = float(gradient.norm())
        turns, step = [*torch.eye(len(tensor))], 0.03
        if tensor is edit.direction:
            step = 0.01
            turns = [torch.nn.functional.normalize(one, dim=0) for one in (gradient, torch.randn_like(tensor))]
        for turn in turns:
            assert slope(edit_losses, edit, place, turn, step) == pytest.approx(float(gradient @ turn), abs=0.01 * size)


def test_the_size_of_batches_changes_no_gradient(model: PreTrainedModel) -> None:
    whole, architecture = ruler_of(model)
    edit = random_edit(architecture)
    with frozen(model):
        expected = gradients(whole, edit)
        with rows_of(model) as rows:
            found = gradients(replace(whole, batch_size=1), edit)
    assert set(rows) == {1}
    assert len(expected) == len(edit.tensors())
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)
