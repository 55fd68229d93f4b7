"""The whole run, as one function that reads like the design: from a model's name to a proved, measured checkpoint."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from abliterate.directions import Directions
from abliterate.edit import write_edited
from abliterate.evaluation.divergence import diverge
from abliterate.evaluation.observation import Observation, Report, observe
from abliterate.loading import load_model
from abliterate.offload import streaming_note
from abliterate.outputs.manifest import Measured, Origin, write_records
from abliterate.plan import EditPlan, left_alone_note, make_plan
from abliterate.progress import SILENT, Progress
from abliterate.prompts import public_spec
from abliterate.recipe import Recipe
from abliterate.search.stages import Found
from abliterate.selection import Selection
from abliterate.session import (
    Heard,
    Loaded,
    Options,
    capture_training,
    choose_place,
    find_directions,
    listen,
    load,
    optimise,
)
from abliterate.source import Source
from abliterate.staging import Staging
from abliterate.verify import PROMPTS, reference, requantised_note, verify_stream, verify_tensors


@dataclass(frozen=True)
class Result:
    """What a run gives back; `manifest` is the content of `abliterate.json`, `seconds` the time of each step."""

    out: Path
    measured: Measured
    seconds: dict[str, float]
    notes: tuple[str, ...]
    manifest: dict[str, Any]


@dataclass
class Clock:
    """Seconds that each step of a run took, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Record the time inside the context under `name`."""
        begin = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begin


def run(options: Options, progress: Progress = SILENT) -> Result:
    """Find the direction, choose layer and position, edit, prove, measure; write manifest and card.

    Raises AbliterateError with one line that says what to do. A run that ends early leaves at most
    `OUT.partial`, which a rerun continues.
    """
    clock = Clock()
    loaded, heard, directions, selection, found = find(options, clock, progress)
    plan = plan_edit(loaded, directions, selection, found)
    with clock.step("measure the original"):
        report = loaded.material.report()
        expected = reference(loaded.model, loaded.architecture, plan, proof_prompts(report))
        original = look(loaded, report, None, progress)
    notes = (*heard.notes, *left_alone_note(plan.left_alone), *loaded.architecture.problems)
    notes += streaming_note(loaded.model)
    loaded = replace(loaded, model=loaded.empty)  # one model in memory at a time
    gc.collect()
    with open_staging(loaded, plan) as staging:
        with clock.step("edit"):
            written = write_edited(plan, loaded.source.checkpoint, staging, progress)
        with clock.step("prove"):
            tensors = verify_tensors(plan, loaded.source.checkpoint, written, progress)
            loaded = replace(
                loaded, model=load_model(loaded.source, options.dtype, options.device, written, options.max_memory)
            )
            proof = verify_stream(
                loaded.model, loaded.architecture, plan, expected, plan.stored_dtype(written), tensors
            )
        with clock.step("measure the edited"):
            edited = look(loaded, report, original, progress)
            divergence = diverge(original, edited, progress)
        measured = Measured(tensors, proof, selection, original, edited, divergence, found)
        prompts = heard.record(loaded.material.record())
        origin = Origin(loaded.source, command(options, loaded.source), options.seed, prompts)
        manifest = write_records(staging, origin, plan, directions, measured)
        staging.publish()
    notes += requantised_note(tensors)
    return Result(options.out, measured, clock.seconds, notes, manifest)


def find(
    options: Options, clock: Clock, progress: Progress
) -> tuple[Loaded, Heard, Directions, Selection, Found | None]:
    """Load the model, and find the direction, the layer, and with --optimize the strengths: all that needs no writing.

    Under `accelerate launch` every process calls this, and the search is shared out among them.
    """
    torch.manual_seed(options.seed)
    with clock.step("load"):
        loaded = load(options, progress)
    with clock.step("capture"):
        activations = capture_training(loaded, progress)
    with clock.step("listen"):
        heard = listen(loaded, progress)
        directions = find_directions(loaded, heard, *activations)
    with clock.step("choose"):
        selection = choose_place(loaded, heard, directions, progress)
    if not options.optimize:
        return loaded, heard, directions, selection, None
    with clock.step("search"):
        return loaded, heard, directions, selection, optimise(loaded, heard, directions, selection, progress)


def assist(options: Options) -> None:
    """Take part in the search of a run that another process leads and writes down."""
    if options.optimize:
        find(options, Clock(), SILENT)


def open_staging(loaded: Loaded, plan: EditPlan) -> Staging:
    """Return the staging folder for the edit: its identity is the plan and the source."""
    checkpoint, options = loaded.source.checkpoint, loaded.options
    needed = checkpoint.total_bytes + plan.grown_bytes(checkpoint)
    return Staging.open(options.out, f"{plan.digest} {checkpoint.fingerprint()}", options.force, needed)


def look(loaded: Loaded, report: Report, original: Observation | None, progress: Progress) -> Observation:
    """Observe the loaded model on the report prompts, along the original's replies where there are some."""
    along = original.harmless if original else None
    size = loaded.options.batch_size
    return observe(loaded.model, loaded.tokenizer, report, along=along, batch_size=size, progress=progress)


def proof_prompts(report: Report) -> list[Sequence[int]]:
    """Return the token ids that the proof runs: some of both sides."""
    return [*report.harmful.tokens[: PROMPTS // 2], *report.harmless.tokens[: PROMPTS // 2]]


def plan_edit(loaded: Loaded, directions: Directions, selection: Selection, found: Found | None) -> EditPlan:
    """Resolve the recipe of a run: what the search found, else one direction and one strength at every site asked for."""
    chosen, options = selection.chosen, loaded.options
    if found:
        recipe, direction = found.chosen.edit.recipe(), found.chosen.edit.direction
    else:
        recipe = Recipe.uniform(options.strength, options.sites, f"resid.{chosen.layer}")
        direction = directions.at(chosen.layer, chosen.position)
    return make_plan(
        recipe, direction, loaded.architecture, loaded.empty, loaded.source.checkpoint, options.edited_dtype
    )


def command(options: Options, source: Source) -> list[str]:
    """Return the command that repeats this run; folders of this machine stay out of it."""
    words = ["abliterate", source.public_name]
    defaults = Options("", Path())
    for name, value in vars(options).items():
        if name in ("model", "out", "force", "offline", "device", "max_memory") or value == getattr(defaults, name):
            continue
        if isinstance(value, Path):
            value = value.name
        elif isinstance(value, tuple):
            value = ",".join(value)
        elif name in ("harmful", "harmless"):
            value = public_spec(value)
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    return [*words, "--out", options.out.name]
