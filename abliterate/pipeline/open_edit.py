"""An edit as a verb works on it: what its files say, the original that it is made to, and the plan."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from abliterate.checkpoints.other_files import leads_out
from abliterate.directions.files import load_basis
from abliterate.edits.plan import EditPlan, left_alone_note, make_plan
from abliterate.errors import InputError
from abliterate.hub.names import is_plain_revision, is_recorded_name
from abliterate.interventions.recipe import Recipe
from abliterate.models.source import Source
from abliterate.pipeline.open_model import OpenedModel, open_model
from abliterate.pipeline.options import ModelOptions, Options
from abliterate.progress import SILENT, Progress
from abliterate.records.manifest import part
from abliterate.storage.names import DIRECTIONS, RECIPE


@dataclass(frozen=True)
class EditFiles:
    """An edit as its files say it: `place` is the file or folder that it was given by."""

    place: Path
    recipe: Recipe
    directions: Path

    @classmethod
    def of(cls, place: Path) -> EditFiles:
        """Return the edit of a folder, or of a recipe with its directions beside it.

        Raises InputError when the recipe cannot be read, and for a link out of the folder: both are copied.
        """
        folder, recipe = (place, place / RECIPE) if place.is_dir() else (place.parent, place)
        for name in (recipe.name, DIRECTIONS):
            if leads_out(folder, Path(name)):
                raise InputError(f"{folder / name}: is a link out of the folder; put the file itself in its place")
        return cls(place, Recipe.load(recipe), folder / DIRECTIONS)

    @cached_property
    def basis(self) -> Float[Tensor, "k d_model"]:
        """Return the directions that the recipe names. Raises InputError when it names none, or they cannot be read."""
        if not self.recipe.names:
            raise InputError(f'{self.place}: names no direction; add one such as "resid.15"')
        return load_basis(self.directions, self.recipe.names)


@dataclass(frozen=True)
class OpenedEdit:
    """An edit resolved on its original; nothing is loaded, nothing written."""

    model: OpenedModel
    files: EditFiles
    plan: EditPlan

    @property
    def notes(self) -> tuple[str, ...]:
        """Return a line for what is left alone, and for each place where the stream cannot be followed exactly."""
        return (*left_alone_note(self.plan.left_alone), *self.model.architecture.problems)


def open_edit(
    options: ModelOptions,
    files: EditFiles,
    progress: Progress = SILENT,
    source: Source | None = None,
    edited_dtype: str | None = None,
) -> OpenedEdit:
    """Open the original that the options name, prove its architecture, and resolve the edit on it; `source` as `open_model`.

    `edited_dtype` is what the edited weights of a quantised model are written in, as `make_plan` takes it.

    Raises InputError for an edit that cannot be read or belongs to another model, and what `open_model` raises.
    """
    basis = files.basis
    model = open_model(options, progress, source, rank=len(basis))
    plan = make_plan(files.recipe, basis, model.architecture, model.empty, model.source.checkpoint, edited_dtype)
    return OpenedEdit(model, files, plan)


def with_original(options: Options, manifest: Mapping[str, Any] | None) -> Options:
    """Return the options with the original: the one that was given, else the manifest's on the Hub, at its commit.

    Raises InputError without either.
    """
    if options.model:
        return options
    made_from = part(manifest or {}, "source")
    name = made_from.get("model")
    if not isinstance(name, str) or not name:
        raise InputError("an edit is written anew from its original; say where it is with --model")
    revision = made_from.get("revision")
    if not is_recorded_name(name, revision) or os.path.lexists(name):
        raise InputError(f"the original {name} is not on the Hub; say where it is with --model")
    if options.revision is None and revision is not None and not is_plain_revision(revision):
        raise InputError(
            f"the manifest names the revision {revision!r}, which is no commit; choose one with --revision"
        )
    return replace(options, model=name, revision=options.revision or revision)
