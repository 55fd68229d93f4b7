"""What can be picked: the edit first, then the other directions by layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from abliterate.chat.sides import ChatSides
from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe
from abliterate.lab.choices import choices_of, chosen
from fixtures.tiny_chat import TINY


def test_the_edit_comes_first_and_the_others_by_layer(folder: Path, sides: ChatSides) -> None:
    own, *others = choices_of(folder, "edited")
    edit = sides.sides[-1].edit
    assert edit is not None
    assert (own.recipe, own.name) == (edit.recipe, edit.recipe.direction)
    assert torch.equal(own.basis, edit.basis)
    layers = [one.layer for one in others]
    assert layers == sorted(set(range(1, 9)) - {own.layer})
    assert others[0].on(edit, 0.5).recipe == Recipe.uniform(0.5, direction="resid.1")
    assert all(abs(float(one.basis.norm()) - 1) < 1e-5 for one in others)


def test_a_direction_that_is_not_there(folder: Path) -> None:
    with pytest.raises(InputError, match=r"resid.99: no such direction; there are resid\."):
        chosen(choices_of(folder, "edited"), "resid.99")


def test_a_folder_without_an_edit_says_what_to_do() -> None:
    for folder in (None, TINY):
        with pytest.raises(InputError, match=r"has no recipe.json and directions.safetensors.*: abliterate chat"):
            choices_of(folder, "tiny")
