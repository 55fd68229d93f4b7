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


OWN = Recipe(({"attn": 1.0, "mlp": (0.0, 0.5)}, {"attn": 0.25}), ("a", "b"))


def test_several_directions_come_back_with_one_strength_or_their_own() -> None:
    shared = Recipe.uniform(0.5, ["mlp"], ("b", "a"))
    assert shared.to_json() == {"directions": ["b", "a"], "strengths": {"mlp": 0.5}}
    for recipe in (shared, OWN):
        assert Recipe.from_json(recipe.to_json(), "x") == recipe
        assert recipe.layer is None
    assert OWN.names == ("a", "b")
    assert Recipe.uniform(direction="a").names == ("a",)
    assert Recipe.uniform().names == ()


def test_one_direction_is_written_as_it_always_was() -> None:
    recipe = Recipe({"embed": 1.0, "mlp": (0.0, 0.5)}, "resid.3")
    assert recipe.to_json() == {"direction": "resid.3", "strengths": {"embed": 1.0, "mlp": [0.0, 0.5]}}


def test_each_direction_has_its_strength_and_equal_ones_are_one() -> None:
    assert OWN.strength("mlp", 1) == (0.5, 0.0)
    assert OWN.strength("mlp", 0) == OWN.strength("embed", None) == 0.0
    assert OWN.strength("attn", 0) == (1.0, 0.25)
    assert not OWN.exact
    ones = {"embed": 1.0, "attn": 1.0, "mlp": 1.0}
    assert Recipe((ones, ones), ("a", "b")).exact
    assert not Recipe((ones, {**ones, "mlp": 0.0}), ("a", "b")).exact


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"directions": ["a"], "strengths": {}}, "the names of two or more"),
        ({"directions": ["a", 2], "strengths": {}}, "the names of two or more"),
        ({"directions": "ab", "strengths": {}}, "the names of two or more"),
        ({"direction": "a", "directions": ["a", "b"], "strengths": {}}, "not a recipe"),
        ({"directions": ["a", "b"], "strengths": [{"mlp": 1.0}]}, "one for each of several"),
        ({"direction": "a", "strengths": [{"mlp": 1.0}]}, "one for each of several"),
        ({"directions": ["a", "b"], "strengths": [{"mlp": 1.0}, {"mlp": "1"}]}, "must be finite numbers"),
        ({"directions": ["a", "b"], "strengths": {}, "added": 1.0}, "a recipe that adds has"),
    ],
)
def test_several_directions_that_are_none_are_refused(data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe.from_json(data, "recipe.json")


def test_strengths_of_another_number_of_directions_are_refused() -> None:
    with pytest.raises(InputError, match="strengths of 2 directions for 3"):
        OWN.check(2, 3)
    with pytest.raises(InputError, match="2 strengths for a model of 4 layers"):
        OWN.check(4, 2)
    Recipe.uniform().check(4, 3)


def test_the_form_is_read_back_and_others_are_refused() -> None:
    recipe = Recipe({"mlp": 1.0}, "resid.3", form="columns")
    assert recipe.to_json()["form"] == "columns"
    assert Recipe.from_json(recipe.to_json(), "x") == recipe
    for wrong in ({"form": "rows"}, {"form": None}, {"form": "columns", "added": 1.0, "strengths": {}}):
        with pytest.raises(InputError, match="the form of what it removes should be one of projection, columns"):
            Recipe.from_json({**recipe.to_json(), **wrong}, "x")


def test_a_recipe_times_a_factor() -> None:
    recipe = Recipe({"attn": 1.0, "mlp": (0.5, 1.0)}, "resid.1")
    assert recipe.times(2.0) == Recipe({"attn": 2.0, "mlp": (1.0, 2.0)}, "resid.1")
    several = Recipe(({"mlp": 1.0}, {"mlp": 0.5}), ("resid.1", "resid.2"))
    assert several.times(-1.0).strengths == ({"mlp": -1.0}, {"mlp": -0.5})
    assert Recipe.adding(3.0, 2).times(0.5) == Recipe.adding(1.5, 2)
    for factor in (float("nan"), float("inf"), 1e7):
        with pytest.raises(InputError, match="must be a finite number"):
            recipe.times(factor)
