"""Smaller batches, and layers run twice, where memory is short."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.models.gradient_memory import MemoryPlan, frozen, plan_memory
from fixtures.search import ANSWERS, gradients, random_edit, ruler_of


@pytest.mark.parametrize("memory", [MemoryPlan(10**6, False), MemoryPlan(1, True), MemoryPlan(10**6, True)])
def test_small_batches_and_layers_run_twice_change_no_gradient(llama: PreTrainedModel, memory: MemoryPlan) -> None:
    whole, architecture = ruler_of(llama)
    edit = random_edit(architecture)
    with frozen(llama):
        expected = gradients(whole, edit)
        found = gradients(ruler_of(llama, memory)[0], edit)
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)
    assert "forward" not in vars(llama.get_submodule(architecture.layers[0]))


def test_layers_run_twice_for_gradients_alone(llama: PreTrainedModel) -> None:
    """Replies, and predictions that are only compared, go through a layer once however little room there is."""
    architecture = find_architecture(llama)
    edit, runs = random_edit(architecture), []
    llama.get_submodule(architecture.layers[0]).mlp.register_forward_pre_hook(lambda *given: runs.append(1))
    counts = []
    for memory in (MemoryPlan(1, False), MemoryPlan(1, True)):
        edit_losses, _ = ruler_of(llama, memory)
        with frozen(llama):
            compared = len(runs)
            edit_losses.states(ANSWERS, edit)
            followed = len(runs)
            gradients(edit_losses, edit)
        counts.append((followed - compared, len(runs) - followed))
    (compared, followed), (compared_again, followed_again) = counts
    assert compared_again == compared
    assert followed_again == followed + (followed - compared)  # the original's own states are compared as well


def test_the_room_shrinks_with_the_memory(llama: PreTrainedModel) -> None:
    plenty, little, none = (plan_memory(llama, free) for free in (10**12, 10**7, 10**5))
    assert plenty == MemoryPlan(1, False)
    assert little.copies > 1
    assert none.recompute
