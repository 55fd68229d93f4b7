"""`abliterate apply`: edit a checkpoint by given directions, and prove the result."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abliterate.checkpoints.other_files import left_behind_note
from abliterate.directions.files import read_directions
from abliterate.edits.plan import check_edited_dtype
from abliterate.edits.tensor_edits import TensorReport
from abliterate.edits.write import write_edited
from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer
from abliterate.parallel.devices import choose_device
from abliterate.pipeline.open_edit import EditFiles, open_edit
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.options import Options
from abliterate.progress import SILENT, Progress
from abliterate.proofs.stream import StreamReport, plain_sequences, reference, requantised_note, verify_stream
from abliterate.proofs.tensors import verify_tensors
from abliterate.records.manifest import Measured, Origin, write_records
from abliterate.storage.names import DIRECTIONS, RECIPE
from abliterate.storage.staging import Staging, check_destination, check_free


@dataclass(frozen=True)
class Applied:
    """A checkpoint that was written from given directions: what the proof says."""

    out: Path
    tensors: tuple[TensorReport, ...]
    proof: StreamReport
    untouched: int
    notes: tuple[str, ...] = ()


def apply(
    options: Options,
    directions: Path,
    recipe_file: Path | None,
    progress: Progress = SILENT,
    rows: Sequence[str] = (),
) -> Applied:
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
    plan, architecture = opened.plan, opened.model.architecture
    plan.require_edits()
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    expected = reference(model, architecture, plan, plain_sequences(load_tokenizer(source)))
    del model
    gc.collect()
    identity = f"{plan.digest} {source.checkpoint.fingerprint()}"
    needed = source.checkpoint.total_bytes + plan.grown_bytes(source.checkpoint)
    with Staging.open(options.out, identity, options.force, needed) as staging:
        written = write_edited(plan, source.checkpoint, staging, progress)
        tensors = verify_tensors(plan, source.checkpoint, written, progress)
        model = load_model(source, options.dtype, options.device, written, options.max_memory)
        proof = verify_stream(model, architecture, plan, expected, plan.stored_dtype(written), tensors)
        words = ["abliterate", "apply", source.public_name, "--directions", DIRECTIONS, "--recipe", RECIPE]
        words += ["--edited-dtype", plan.edited_dtype] if plan.edited_dtype else []
        origin = Origin(source, [*words, "--out", options.out.name], options.seed, choose_device(options.device))
        write_records(staging, origin, plan, directions, Measured(tensors, proof))
        staging.publish()
    notes = (*requantised_note(tensors), *opened.notes)
    notes += (*left_behind_note(source.checkpoint.left_behind()), *source.oddities)
    return Applied(options.out, tensors, proof, len(written.tensors) - len(plan.edits), notes)


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
