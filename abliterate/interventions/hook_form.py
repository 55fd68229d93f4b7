"""A whole recipe as hooks: what the edited checkpoint does, on the original."""

from __future__ import annotations

from contextlib import AbstractContextManager

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture
from abliterate.interventions.ablation import ablated
from abliterate.interventions.addition import added
from abliterate.interventions.recipe import Recipe
from abliterate.projection import unit_rows


def hook_form(
    model: PreTrainedModel, direction: Float[Tensor, "*k d_model"], recipe: Recipe, architecture: Architecture
) -> AbstractContextManager[PreTrainedModel]:
    """Return the context inside which `model` is what `recipe` makes of it, along a direction (or the span of rows).

    Lengths do not count: the recipe has that of what it adds.

    Raises InputError, at the latest when it is entered, for a direction or a recipe of another model.
    """
    if recipe.addition is None:
        return ablated(model, direction, recipe, architecture)
    layer, length = recipe.addition
    return added(model, unit_rows(direction, architecture.d_model).reshape(-1), layer, architecture, scale=length)
