"""The edit as variables."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.interventions import ablated
from abliterate.search.variables import STRONGEST, Variables, is_learned
from fixtures.search import random_edit


def test_the_edit_is_that_of_its_recipe(model: PreTrainedModel) -> None:
    architecture = find_architecture(model)
    edit = random_edit(architecture)
    tokens = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad():
        with edit.applied(model, architecture):
            searched = model(tokens).logits
        with ablated(model, edit.direction, edit.recipe(), architecture):
            assert torch.allclose(model(tokens).logits, searched, atol=1e-4)


def several(architecture: Architecture, rank: int = 3) -> Variables:
    edit = Variables.start(architecture, torch.randn(rank, architecture.d_model))
    for one in edit.strengths.values():
        one.uniform_(0.1, 1.2)
    return edit


def test_an_edit_of_several_directions_is_that_of_its_recipe(model: PreTrainedModel) -> None:
    architecture = find_architecture(model)
    edit = several(architecture)
    tokens = torch.tensor([[1, 2, 3, 4, 5]])
    recipe = edit.recipe()
    assert recipe.names == ("learned.1", "learned.2", "learned.3")
    assert is_learned(recipe)
    with torch.no_grad():
        with edit.applied(model, architecture):
            searched = model(tokens).logits
        with ablated(model, edit.direction, recipe, architecture):
            assert torch.allclose(model(tokens).logits, searched, atol=1e-4 * float(searched.abs().max()))


def test_a_search_of_any_rank_begins_with_the_same_edit(llama: PreTrainedModel) -> None:
    architecture, tokens = find_architecture(llama), torch.tensor([[1, 2, 3]])
    rows = torch.randn(3, architecture.d_model)
    found = []
    for start in (Variables.start(architecture, rows[0]), Variables.start(architecture, rows)):
        with torch.no_grad(), start.applied(llama, architecture):
            found.append(llama(tokens).logits)
    assert torch.allclose(*found, atol=1e-4)


def test_gradients_turn_directions_and_leave_them_orthonormal(model: PreTrainedModel) -> None:
    architecture = find_architecture(model)
    edit = several(architecture)
    for one in edit.tensors():
        one.requires_grad_()
    with edit.applied(model, architecture):
        model(torch.tensor([[1, 2, 3, 4, 5]])).logits.square().mean().backward()
    assert all(one.grad is not None and bool(one.grad.any()) for one in edit.tensors())
    rows, slope = edit.direction.detach(), edit.direction.grad
    assert slope is not None
    # Along a row itself nothing changes: only the direction counts.
    assert float((rows * slope).sum(-1).abs().max()) < 1e-4 * float(slope.norm())
    with torch.no_grad():
        edit.direction.add_(0.1 * torch.randn_like(edit.direction))
    edit.bound()
    assert torch.allclose(edit.direction @ edit.direction.T, torch.eye(3), atol=1e-6)


def test_strengths_and_direction_stay_within_their_bounds(llama: PreTrainedModel) -> None:
    edit = random_edit(find_architecture(llama))
    edit.strengths["attn"].fill_(9.0)
    edit.strengths["mlp"].fill_(-1.0)
    edit.direction.mul_(3.0)
    edit.bound()
    assert set(edit.strengths["attn"].tolist()) == {STRONGEST}
    assert set(edit.strengths["mlp"].tolist()) == {0.0}
    assert float(edit.direction.norm()) == pytest.approx(1.0, abs=1e-6)
