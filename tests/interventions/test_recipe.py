"""A recipe is read back as it was written, and nothing else is read as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe


def test_recipes_that_add_are_read_back_and_nothing_else(tmp_path: Path) -> None:
    recipe = Recipe.adding(-2.5, 7)
    assert Recipe.from_json(recipe.to_json(), "recipe.json") == recipe
    assert recipe.layer == 7
    assert Recipe.uniform(direction="learned").layer is None
    assert Recipe.uniform(direction="open/1-harm/resid.15").layer == 15
    for wrong in ({"strengths": {"mlp": 1.0}}, {"direction": "learned"}, {"added": "1"}, {"added": float("nan")}):
        with pytest.raises(InputError, match=r"recipe\.json: a recipe that adds has"):
            Recipe.from_json({**recipe.to_json(), **wrong}, "recipe.json")
    with pytest.raises(InputError, match="has length 0"):
        Recipe.from_json({**recipe.to_json(), "added": 0}, "recipe.json")


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"direction": "x"},
        {"direction": "x", "strengths": {"head": 1}},
        {"direction": "x", "strengths": {"mlp": "1"}},
    ],
)
def test_a_recipe_that_is_none_is_refused(data: object) -> None:
    with pytest.raises(InputError, match=r"not a recipe|must be finite numbers"):
        Recipe.from_json(data, "recipe.json")


def test_a_recipe_comes_back_as_it_was() -> None:
    recipe = Recipe({"embed": 1.0, "mlp": (0.0, 0.5)}, "resid.3")
    assert Recipe.from_json(recipe.to_json(), "x") == Recipe({"embed": 1.0, "mlp": (0.0, 0.5)}, "resid.3")
    with pytest.raises(InputError, match="2 strengths for a model of 3 layers"):
        recipe.check(3)


@pytest.mark.parametrize(
    "name", ["resid.foo", "resid.-1", "resid.", "resid." + "9" * 5000, "resid.²", "direction.4", ""]
)
def test_a_name_of_no_layer_has_none(name: str) -> None:
    assert Recipe.uniform(direction=name).layer is None
    assert Recipe.uniform(direction="resid.15").layer == 15
