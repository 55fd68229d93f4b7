"""What can be picked in the lab: the edit of a folder as it was made, and each other direction that lies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from abliterate.chat.sides import HookedEdit
from abliterate.directions.files import WHOLE_ROW, read_directions
from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe
from abliterate.pipeline.open_edit import EditFiles
from abliterate.projection import normalize
from abliterate.storage.names import DIRECTIONS, RECIPE


@dataclass(frozen=True)
class Choice:
    """A direction, or the span of several, and the edit along it at strength 1."""

    name: str
    basis: Float[Tensor, "k d_model"]
    recipe: Recipe

    @property
    def layer(self) -> int | None:
        """Return the layer that the direction was found at, None where it is not of one."""
        return self.recipe.layer

    def on(self, edit: HookedEdit, strength: float) -> HookedEdit:
        """Return this edit at a strength, on the model of another. Raises InputError for a strength that is not finite."""
        return HookedEdit(edit.model, self.basis, self.recipe.times(strength), edit.architecture)


def choices_of(folder: Path | None, place: str) -> tuple[Choice, ...]:
    """Return the edit of a folder first, then the other directions of its file, by layer; `place` is how it was given.

    Each other direction is removed everywhere. Raises InputError where the folder holds no edit, and for what cannot be read.
    """
    if folder is None or not (folder / RECIPE).is_file() or not (folder / DIRECTIONS).is_file():
        raise InputError(
            f"{place}: has no {RECIPE} and {DIRECTIONS}, along which the lab looks; give a folder that abliterate "
            "wrote, or talk to the model: abliterate chat"
        )
    edit = EditFiles.of(folder)
    own = Choice(" + ".join(edit.recipe.names), edit.basis, edit.recipe)
    rows, _ = read_directions(edit.directions)
    others = [
        Choice(name, normalize(row.float())[None], Recipe.uniform(direction=name))
        for name, row in rows.items()
        if name != own.name and not WHOLE_ROW.fullmatch(name)
    ]
    return (own, *sorted(others, key=lambda one: (one.layer is None, one.layer, one.name)))


def chosen(choices: Sequence[Choice], name: str) -> Choice:
    """Return the choice of a name. Raises InputError where there is none."""
    for one in choices:
        if one.name == name:
            return one
    raise InputError(f"{name}: no such direction; there are {', '.join(one.name for one in choices)}")
