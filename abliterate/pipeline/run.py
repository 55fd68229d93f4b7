"""The whole run, as one function that reads like the design: from a model's name to a proved, measured checkpoint."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.other_files import left_behind_note
from abliterate.edits.plan import EditPlan, left_alone_note, make_plan
from abliterate.edits.write import write_edited
from abliterate.evaluation.divergence import diverge
from abliterate.evaluation.observation import Observation, observe
from abliterate.exports.peft_adapter import prepare_adapter, write_files
from abliterate.interventions.recipe import Recipe
from abliterate.models.adapter import attach
from abliterate.models.decoding import Decoding
from abliterate.models.loading import load_model
from abliterate.models.offload import streaming_note
from abliterate.parallel.devices import choose_device
from abliterate.pipeline.command import command, settings, settled
from abliterate.pipeline.find import (
    Clock,
    Finding,
    find,
)
from abliterate.pipeline.load import Loaded
from abliterate.pipeline.options import Options
from abliterate.pipeline.removed_words import removed_words, texts_of_run
from abliterate.pipeline.thoughts import cliff, compare_modes, observe_modes
from abliterate.progress import SILENT, Progress
from abliterate.prompts.splits import Report
from abliterate.proofs.stream import PROMPTS, reference, requantised_note, verify_stream
from abliterate.proofs.tensors import verify_tensors
from abliterate.records.manifest import Form, Measured, Origin, json_text, write_records
from abliterate.records.observations import observations
from abliterate.replies.behaviours import BEHAVIOURS
from abliterate.search.choice import USUAL_MAX_KL
from abliterate.search.found_file import save_found
from abliterate.storage.names import OBSERVATIONS, SEARCH
from abliterate.storage.record_log import RecordLog
from abliterate.storage.staging import Staging


@dataclass(frozen=True)
class Result:
    """What a run gives back; `manifest` is the content of `abliterate.json`, `seconds` the time of each step.

    Examples:
        >>> result.manifest["proof"]["holds"], result.measured.edited.harmful_refusals.count
        (True, 0)
    """

    out: Path
    measured: Measured
    seconds: dict[str, float]
    notes: tuple[str, ...]
    manifest: dict[str, Any]


def run(options: Options, progress: Progress = SILENT) -> Result:
    """Find the direction, choose layer and position, edit, prove, measure; write manifest and card.

    Raises AbliterateError with one line that says what to do. A run that ends early leaves at most
    `OUT.partial`, which a rerun continues, and in the user's cache what it had found, which a rerun takes up.

    Examples:
        >>> options = Options(tiny, out, harmful=f"{tiny}/harmful.txt", harmless=f"{tiny}/harmless.txt", layer=4)
        >>> run(options).out == out
        True
    """
    with progress.step("the run", steps_of(options), "steps") as advance:
        return run_steps(options, Clock(advance=advance), progress)


def steps_of(options: Options) -> int:
    """Return how many steps the clock of a run will count."""
    return 8 + options.searches + (options.thought is not None)


def run_steps(options: Options, clock: Clock, progress: Progress) -> Result:
    """Do the work of `run`, in steps that the clock counts."""
    finding = find(options, clock, progress)
    loaded, training_replies = finding.loaded, finding.training_replies
    selection, found = finding.selection, finding.found
    plan = plan_edit(finding)
    removed = removed_words(loaded.live(SILENT), plan.basis, texts_of_run(loaded, training_replies))
    with clock.step("measure the original"):
        report = loaded.splits.report()
        expected = reference(loaded.model, loaded.architecture, plan, proof_prompts(report))
        original = observe_report(loaded, report, None, loaded.unfinished.under("original"), progress)
        modes = observe_modes(loaded, loaded.unfinished.under("original, thinking"), progress)
        fall = cliff(loaded, plan.basis[0], selection.chosen.layer, progress)
    made = Decoding(options.generation, options.seed).record(loaded.model)
    notes = notes_of(options, finding, plan)
    loaded = replace(loaded, model=loaded.empty)  # one model in memory at a time
    finding = replace(finding, loaded=loaded)
    gc.collect()
    with open_staging(loaded, plan) as staging:
        with clock.step("edit"):
            written = write_form(loaded, plan, staging, progress)
        with clock.step("prove"):
            tensors = verify_tensors(plan, loaded.source.checkpoint, written, progress) if written else ()
            loaded = replace(loaded, model=load_form(loaded, staging, written))
            stored = plan.stored_dtype(written) if written else loaded.model.dtype
            proof = verify_stream(loaded.model, loaded.architecture, plan, expected, stored, tensors)
        with clock.step("measure the edited"):
            edited = observe_report(loaded, report, original, loaded.unfinished.under("edited", plan.digest), progress)
            divergence = diverge(original, edited, progress)
            kept = loaded.unfinished.under("edited, thinking", plan.digest)
            thinking = compare_modes(loaded, modes, kept, progress)
        measured = Measured(tensors, proof, selection, original, edited, divergence, found, finding.trials, thinking)
        prompts = training_replies.record(loaded.splits)
        device = choose_device(options.device)
        form: Form = "checkpoint" if written else "adapter"
        repeated = settled(options, loaded.options)
        words, template = command(repeated, loaded.source), loaded.splits.chat.template
        said = settings(loaded.source, repeated)
        origin = Origin(
            loaded.source,
            words,
            options.seed,
            device,
            prompts,
            form,
            template,
            made=made,
            settings=said,
            target=options.target,
        )
        manifest = write_records(staging, origin, plan, finding.directions, measured)
        seen = observations(finding.geometry, finding.prompts, selection, original, edited, removed, fall)
        staging.write_text(OBSERVATIONS, json_text(seen))
        if found:
            save_found(staging.path(SEARCH), found)
            staging.finish(SEARCH)
        staging.publish()
    notes += (*requantised_note(tensors), *loaded.unfinished.notes)
    loaded.unfinished.remove()
    return Result(options.out, measured, clock.seconds, notes, manifest)


def open_staging(loaded: Loaded, plan: EditPlan) -> Staging:
    """Return the staging folder for the edit: its identity is the plan and the source."""
    checkpoint, options = loaded.source.checkpoint, loaded.options
    identity = f"{plan.digest} {checkpoint.fingerprint()}"
    if "checkpoint" not in options.save:
        return Staging.open(options.out, f"adapter {identity}", options.force)
    return Staging.open(options.out, identity, options.force, checkpoint.total_bytes + plan.grown_bytes(checkpoint))


def write_form(loaded: Loaded, plan: EditPlan, staging: Staging, progress: Progress) -> Checkpoint | None:
    """Write the edited checkpoint and return it; or, where none shall be saved, the adapter, and return None."""
    checkpoint, source = loaded.source.checkpoint, loaded.source
    if "checkpoint" in loaded.options.save:
        return write_edited(plan, checkpoint, staging, progress)
    base = source.adapter_base(loaded.options.keep_paths)
    files = prepare_adapter(plan, loaded.empty, loaded.architecture, checkpoint, *base)
    write_files(files, loaded.empty, checkpoint, staging, progress)
    return None


def load_form(loaded: Loaded, staging: Staging, written: Checkpoint | None) -> PreTrainedModel:
    """Load what was written: the edited checkpoint, or the original with the adapter on it."""
    options = loaded.options
    model = load_model(loaded.source, options.dtype, options.device, written, options.max_memory)
    if written is None:
        attach(model, staging.folder)
        model.enable_adapters()
    return model


def observe_report(
    loaded: Loaded, report: Report, original: Observation | None, kept: RecordLog, progress: Progress
) -> Observation:
    """Observe the loaded model on the report prompts, along the original's replies where there are some."""
    along = original.harmless if original else None
    return observe(
        loaded.model,
        loaded.tokenizer,
        report,
        along=along,
        batch_size=loaded.options.batch_size,
        decoding=Decoding(loaded.options.generation, loaded.options.seed),
        kept=kept,
        progress=progress,
        scorer=BEHAVIOURS[loaded.options.target],
    )


def proof_prompts(report: Report) -> list[Sequence[int]]:
    """Return the token ids that the proof runs: some of both sides."""
    return [*report.harmful.tokens[: PROMPTS // 2], *report.harmless.tokens[: PROMPTS // 2]]


def plan_edit(finding: Finding) -> EditPlan:
    """Resolve the recipe of a run: what the search found, what is added, or one strength at every site asked for."""
    loaded, chosen, found = finding.loaded, finding.selection.chosen, finding.found
    options = loaded.options
    direction = finding.directions.at(chosen.layer, chosen.position)
    if found:
        recipe, direction = found.chosen.edit.recipe(), found.chosen.edit.direction
    elif options.mode == "induce":
        length = float(finding.directions.difference(chosen.layer, chosen.position).norm())
        recipe = Recipe.adding(finding.trials[0].strength * length, chosen.layer)
    else:
        recipe = Recipe.uniform(options.removal, options.sites, f"resid.{chosen.layer}")
        recipe = replace(recipe, form=options.edit_form)
    return make_plan(
        recipe, direction, loaded.architecture, loaded.empty, loaded.source.checkpoint, options.edited_dtype
    )


def notes_of(options: Options, finding: Finding, plan: EditPlan) -> tuple[str, ...]:
    """Return a line for everything that a user would want to know before anything is written; `options` are as they were given."""
    loaded = finding.loaded
    notes = (
        *loaded.source.oddities,
        *loaded.notes,
        *finding.training_replies.notes,
        *search_note(finding),
        *left_alone_note(plan.left_alone),
        *loaded.architecture.problems,
        *streaming_note(loaded.model),
        *form_note(options, plan),
    )
    if "checkpoint" in options.save:
        notes += left_behind_note(loaded.source.checkpoint.left_behind())
    return notes


def search_note(finding: Finding) -> tuple[str, ...]:
    """Return one line where nothing that was found stays within the usual divergence, or none."""
    options, found = finding.loaded.options, finding.found
    said = options.max_kl is not None or options.target_refusals is not None or options.pick != "refusals"
    if found is None or said or found.chosen.kl <= USUAL_MAX_KL:
        return ()
    return (
        f"no edit that the search found keeps KL within {USUAL_MAX_KL} on the select split: the one with the least is taken",
    )


def form_note(options: Options, plan: EditPlan) -> tuple[str, ...]:
    """Return one line where an adapter is written because no checkpoint can hold the edit, or none."""
    if plan.addition is None or plan.edits or "checkpoint" not in options.save:
        return ()
    return (
        f"{plan.addition.bias_site.writer.module} has no bias that could hold the vector: an adapter is written, which brings one",
    )
