"""The edit as variables."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.interventions import ablated
from abliterate.search.variables import STRONGEST
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


def test_strengths_and_direction_stay_within_their_bounds(llama: PreTrainedModel) -> None:
    edit = random_edit(find_architecture(llama))
    edit.strengths["attn"].fill_(9.0)
    edit.strengths["mlp"].fill_(-1.0)
    edit.direction.mul_(3.0)
    edit.bound()
    assert set(edit.strengths["attn"].tolist()) == {STRONGEST}
    assert set(edit.strengths["mlp"].tolist()) == {0.0}
    assert float(edit.direction.norm()) == pytest.approx(1.0, abs=1e-6)
