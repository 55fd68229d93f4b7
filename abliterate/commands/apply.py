"""`abliterate apply`: edit a checkpoint by given directions, and prove the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from abliterate.directions.files import read_directions
from abliterate.edits.plan import check_edited_dtype
from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe
from abliterate.pipeline.open_edit import EditFiles, open_edit
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.options import Options
from abliterate.pipeline.write_edit import WrittenEdit, write_edit
from abliterate.progress import SILENT, Progress
from abliterate.storage.names import DIRECTIONS, RECIPE
from abliterate.storage.staging import check_destination, check_free


def apply(
    options: Options,
    directions: Path,
    recipe_file: Path | None,
    progress: Progress = SILENT,
    rows: Sequence[str] = (),
) -> WrittenEdit:
    """Edit a checkpoint by given directions, and prove the result; nothing is chosen or measured.

    `rows` names the one that is used, such as `open/1/resid.15` of a study of positions, or several whose span is removed.
    Raises AbliterateError as `run` does.
    """
    check_free(options.out, options.force)
    source = open_source(options, progress)
    check_destination(source.folder, options.out)
    source.checkpoint.files()  # a link that cannot be copied is named before there is work to lose
    check_edited_dtype(options.edited_dtype, source.checkpoint)
    files = EditFiles(recipe_file or directions, given_recipe(options, directions, recipe_file, rows), directions)
    opened = open_edit(options, files, progress, source, options.edited_dtype)
    words = ["abliterate", "apply", source.shown_name, "--directions", DIRECTIONS, "--recipe", RECIPE]
    words += ["--edited-dtype", opened.plan.edited_dtype] if opened.plan.edited_dtype else []
    return write_edit(opened, options, words, progress)


def given_recipe(options: Options, directions: Path, recipe_file: Path | None, chosen: Sequence[str] = ()) -> Recipe:
    """Return the recipe of the file, or one of `--row` or `--layer`, `--strength`, `--sites` and `--edit-form`.

    Raises InputError where it is not clear which direction is meant, and for a row that is not there.
    """
    if chosen and (recipe_file is not None or options.layer is not None):
        raise InputError("--row names the direction; leave --recipe and --layer away")
    if recipe_file is not None:
        if options.edit_form != "projection":
            raise InputError("--recipe says which form the edit has; leave --edit-form away")
        return Recipe.load(recipe_file)
    return replace(recipe_of_flags(options, directions, chosen), form=options.edit_form)


def recipe_of_flags(options: Options, directions: Path, chosen: Sequence[str]) -> Recipe:
    """Do `given_recipe` where no file gives it."""
    rows, _ = read_directions(directions)
    if chosen:
        for row in chosen:
            if row not in rows:
                raise InputError(
                    f"--row {row}: {directions} has none of that name; it has {', '.join(sorted(rows)[:8])} ..."
                )
        return Recipe.uniform(options.removal, options.sites, chosen[0] if len(chosen) == 1 else tuple(chosen))
    if options.layer is None and len(rows) != 1:
        raise InputError(f"{directions}: holds {len(rows)} directions; choose one with --layer, or pass --recipe")
    name = next(iter(rows)) if options.layer is None else f"resid.{options.layer}"
    return Recipe.uniform(options.removal, options.sites, name)
