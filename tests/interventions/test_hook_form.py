"""A recipe as hooks: it removes what it removes, and adds what it adds."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.errors import InputError
from abliterate.interventions.ablation import ablated
from abliterate.interventions.addition import added
from abliterate.interventions.hook_form import hook_form
from abliterate.interventions.recipe import Recipe
from fixtures.interventions import hook_count, logits


def test_a_recipe_that_removes_is_ablation(model: PreTrainedModel, direction: torch.Tensor) -> None:
    architecture, recipe = find_architecture(model), Recipe({"attn": 0.5, "mlp": (1.0, 0.0, 1.0, -1.0)})
    with ablated(model, direction, recipe, architecture):
        expected = logits(model)
    with hook_form(model, direction, recipe, architecture) as live:
        assert live is model
        assert torch.equal(logits(model), expected)
    assert hook_count(model) == 0


@pytest.mark.parametrize("rows", [False, True])
def test_a_recipe_that_adds_is_addition_of_its_length(
    llama: PreTrainedModel, direction: torch.Tensor, rows: bool
) -> None:
    architecture = find_architecture(llama)
    with added(llama, direction, 2, architecture, scale=3.0):
        expected = logits(llama)
    with hook_form(llama, direction[None] if rows else direction, Recipe.adding(3.0, 2), architecture):
        assert torch.equal(logits(llama), expected)


def test_a_recipe_of_another_model_is_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    with (
        pytest.raises(InputError, match="3 strengths for a model of 4 layers"),
        hook_form(llama, direction, Recipe({"mlp": (1.0, 1.0, 1.0)}), find_architecture(llama)),
    ):
        pass
    assert hook_count(llama) == 0
