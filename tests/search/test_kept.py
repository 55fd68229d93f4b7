"""Refusals that an edit must leave."""

from __future__ import annotations

from itertools import repeat

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.models.gradient_memory import frozen
from abliterate.parallel.processes import Processes
from abliterate.search.kept import KEPT_WEIGHT, Keeping, Kept
from abliterate.search.variables import Variables
from fixtures.search import ANSWERS, random_edit, ruler_of


def turned(edit: Variables) -> Variables:
    one = edit.copy()
    for tensor in one.tensors():
        tensor.requires_grad_()
    return one


def test_they_add_the_gradient_of_their_mean_divergence(llama: PreTrainedModel) -> None:
    edit_losses, architecture = ruler_of(llama)
    edit = random_edit(architecture)
    with frozen(llama):
        keeping = Keeping.of(Kept(ANSWERS, ()), edit_losses)
        by_hand, own = turned(edit), turned(edit)
        weights = (0.0, KEPT_WEIGHT / 2)
        edit_losses.backward([], ANSWERS[:2], edit_losses.states(ANSWERS[:2]), by_hand, weights)
        keeping.backward(edit_losses, repeat([0, 1]), own, Processes())
    for mine, theirs in zip(own.tensors(), by_hand.tensors(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-6)


def test_an_edit_that_does_nothing_loses_nothing(llama: PreTrainedModel) -> None:
    edit_losses, architecture = ruler_of(llama)
    start = random_edit(architecture)
    nothing = Variables({site: torch.zeros_like(one) for site, one in start.strengths.items()}, start.direction)
    with frozen(llama):
        keeping = Keeping.of(Kept(ANSWERS, ()), edit_losses)
        assert float(edit_losses.divergences(ANSWERS, keeping.original, nothing).max()) == pytest.approx(0, abs=1e-6)


def test_without_any_nothing_is_run(llama: PreTrainedModel) -> None:
    edit_losses, architecture = ruler_of(llama)
    keeping = Keeping.of(Kept(), edit_losses)
    keeping.backward(edit_losses, iter(()), random_edit(architecture), Processes())
    assert edit_losses.token_count.forward == 0
