"""Recipes of strangers: a recipe or one line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given

from abliterate.interventions.recipe import Recipe
from fixtures.mutations import fuzz, mutated_json, outcome

REMOVING = {"direction": "resid.4", "strengths": {"embed": 1.0, "attn": [0.5] * 8, "mlp": 1}}
ADDING = {"direction": "resid.4", "strengths": {}, "added": 2.5}


def used(path: Path) -> None:
    """Read a recipe, and do with it what every verb does."""
    recipe = Recipe.load(path)
    assert Recipe.from_json(recipe.to_json(), "again") == recipe
    assert recipe.exact in (True, False)
    if recipe.addition is None:
        recipe.check(8)
        for layer in range(8):
            assert isinstance(recipe.strength("attn", layer), float)


@pytest.mark.parametrize("good", [REMOVING, ADDING], ids=["removing", "adding"])
def test_a_recipe_or_one_line(good: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.json"

        @fuzz
        @given(mutated_json(good))
        def target(content: bytes) -> None:
            path.write_bytes(content)
            outcome(lambda: used(path))

        target()
