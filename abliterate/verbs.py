"""The verbs beside the run, each as one function: apply, verify, evaluate, inspect, demo."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from abliterate.architecture import Architecture
from abliterate.checkpoint import Checkpoint
from abliterate.directions import load_direction, read_directions
from abliterate.edit import write_edited
from abliterate.errors import InputError
from abliterate.evaluation.divergence import Divergence, diverge
from abliterate.evaluation.observation import Observation, Report, observe
from abliterate.loading import load_model
from abliterate.outputs.manifest import DIRECTIONS, RECIPE, Measured, Origin, read_manifest, write_records
from abliterate.pipeline import Result, run
from abliterate.plan import check_edited_dtype, left_alone_note, make_plan
from abliterate.progress import SILENT, Progress
from abliterate.prompts import check_pair, load_prompts
from abliterate.proof import Proved, require_proof
from abliterate.recipe import Recipe
from abliterate.session import Material, Options, read_template
from abliterate.source import Source, load_empty, load_tokenizer, resolve, resolve_config
from abliterate.staging import Staging, check_destination, check_free
from abliterate.template import ChatFormat
from abliterate.verify import (
    PROMPTS,
    Status,
    StreamReport,
    TensorReport,
    Verdict,
    compare_tensors,
    reference,
    requantised_note,
    verify_stream,
    verify_tensors,
)

PROOF_TEXTS = "builtin:everyday"
"""Plain text for proofs where no chat template is at hand: every layer must be silent on any text."""


@dataclass(frozen=True)
class Applied:
    """A checkpoint that was written from given directions: what the proof says."""

    out: Path
    tensors: tuple[TensorReport, ...]
    proof: StreamReport
    untouched: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verified:
    """Two checkpoints held against each other; `proof` is None where a tensor is already not as planned."""

    original: str
    edited: Path
    verdicts: tuple[Verdict, ...]
    proof: StreamReport | None
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Return whether every tensor is untouched or as planned, and the stream is as it must be."""
        return self.proof is not None and self.proof.holds

    def of_status(self, status: Status) -> list[Verdict]:
        """Return the tensors that are untouched, edited or other."""
        return [verdict for verdict in self.verdicts if verdict.status == status]


@dataclass(frozen=True)
class Evaluated:
    """One model on the report prompts, and another held against it; `divergence` is KL(against || model)."""

    model: Observation
    against: Observation | None
    divergence: Divergence | None


@dataclass(frozen=True)
class Inspection:
    """What can be said of a model from its config alone; `proved` is None where its writers cannot be proved."""

    name: str
    architecture: Architecture
    proved: Proved | None
    parameters: int
    stored_bytes: int
    edited_parameters: int
    layer_parameters: int


def apply(options: Options, directions: Path, recipe_file: Path | None, progress: Progress = SILENT) -> Applied:
    """Edit a checkpoint by given directions, and prove the result; nothing is chosen or measured.

    Raises AbliterateError as `run` does.
    """
    check_free(options.out, options.force)
    source = source_of(options, options.model, progress)
    check_destination(source.folder, options.out)
    check_edited_dtype(options.edited_dtype, source.checkpoint)
    recipe = given_recipe(options, directions, recipe_file)
    empty = load_empty(source)
    architecture, _ = require_proof(empty, options.allow_unproved)
    if recipe.direction is None:
        raise InputError(f'{recipe_file}: names no direction; add one such as "resid.15"')
    plan = make_plan(
        recipe,
        load_direction(directions, recipe.direction),
        architecture,
        empty,
        source.checkpoint,
        options.edited_dtype,
    )
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
        origin = Origin(source, [*words, "--out", options.out.name], options.seed)
        write_records(staging, origin, plan, directions, Measured(tensors, proof))
        staging.publish()
    notes = (*requantised_note(tensors), *left_alone_note(plan.left_alone), *architecture.problems)
    return Applied(options.out, tensors, proof, len(written.tensors) - len(plan.edits), notes)


def given_recipe(options: Options, directions: Path, recipe_file: Path | None) -> Recipe:
    """Return the recipe of the file, or one of `--layer`, `--strength` and `--sites`."""
    if recipe_file is not None:
        return Recipe.load(recipe_file)
    rows, _ = read_directions(directions)
    if options.layer is None and len(rows) != 1:
        raise InputError(f"{directions}: holds {len(rows)} directions; choose one with --layer, or pass --recipe")
    name = next(iter(rows)) if options.layer is None else f"resid.{options.layer}"
    return Recipe.uniform(options.strength, options.sites, name)


def verify(original: str, edited: Path, options: Options, progress: Progress = SILENT) -> Verified:
    """Hold `edited` against `original` and the recipe in its own folder: every tensor, then the residual stream.

    Raises ProofError when the tensors are as planned but the stream is not, InputError when `edited` was not
    written by abliterate.
    """
    manifest = read_manifest(edited)
    unproved = not manifest.get("proof", {}).get("holds", True)
    source = source_of(options, original, progress)
    written = Checkpoint.open(edited)
    recipe = Recipe.load(edited / RECIPE)
    empty = load_empty(source)
    architecture, _ = require_proof(empty, unproved)
    direction = load_direction(edited / DIRECTIONS, str(recipe.direction))
    plan = make_plan(recipe, direction, architecture, empty, source.checkpoint, manifest.get("edited_dtype"))
    notes = (*left_alone_note(plan.left_alone), *architecture.problems)
    verdicts = compare_tensors(plan, source.checkpoint, written, progress)
    if any(verdict.status == "other" for verdict in verdicts):
        return Verified(original, edited, verdicts, None, notes)
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    expected = reference(model, architecture, plan, plain_sequences(load_tokenizer(source)))
    del model
    gc.collect()
    model = load_model(source, options.dtype, options.device, written, options.max_memory)
    reports = [verdict.report for verdict in verdicts if verdict.report]
    proof = verify_stream(model, architecture, plan, expected, plan.stored_dtype(written), reports)
    return Verified(original, edited, verdicts, proof, (*requantised_note(reports), *notes))


def evaluate(options: Options, against: str | None, progress: Progress = SILENT) -> Evaluated:
    """Measure `options.model` on the report prompts, and its divergence from `against` where one is given."""
    harmful = load_prompts(options.harmful, offline=options.offline)
    harmless = load_prompts(options.harmless, offline=options.offline)
    check_pair(harmful, harmless)

    def look(name: str, along: Observation | None, report: Report | None) -> tuple[Observation, Report]:
        source = source_of(options, name, progress)
        tokenizer = load_tokenizer(source)
        if report is None:
            chat = ChatFormat(tokenizer, options.system, options.thinking, read_template(options.chat_template))
            report = Material(chat, harmful, harmless, options.n_train).report()
        model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
        replies = along.harmless if along else None
        return observe(
            model, tokenizer, report, along=replies, batch_size=options.batch_size, progress=progress
        ), report

    if against is None:
        return Evaluated(look(options.model, None, None)[0], None, None)
    # Both models get the same tokens: those that the original's template makes.
    original, report = look(against, None, None)
    gc.collect()
    own, _ = look(options.model, original, report)
    return Evaluated(own, original, diverge(original, own, progress))


def inspect(options: Options, progress: Progress = SILENT) -> Inspection:
    """Return the writers and sizes of a model, from its config, and prove them on a clone; no weights are read.

    Raises ArchitectureError when its writers cannot be found.
    """
    source_name, empty = resolve_config(
        options.model, revision=options.revision, offline=options.offline, trust_remote_code=options.trust_remote_code
    )
    architecture, proved = require_proof(empty, allow_unproved=True)
    parameters = dict(empty.named_parameters())
    item = empty.config.dtype.itemsize if empty.config.dtype is not None else 4
    edited = [
        parameters[f"{writer.module}.{name}"]
        for writer in architecture.writers
        for name in (one.name for one in writer.parameters)
    ]
    inside = [
        one for name, one in parameters.items() if name.startswith(tuple(f"{layer}." for layer in architecture.layers))
    ]
    total = sum(one.numel() for one in parameters.values())
    return Inspection(
        source_name,
        architecture,
        proved,
        total,
        total * item,
        sum(one.numel() for one in edited),
        sum(one.numel() for one in inside),
    )


def demo(out: Path, progress: Progress = SILENT) -> Result:
    """Run the main job on the bundled tiny chat model, with prompts that it was not trained on."""
    with ExitStack() as files:
        folder = files.enter_context(resources.as_file(resources.files("abliterate") / "data" / "tiny-chat"))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # too small to share: threads would wait for each other most of the time
        files.callback(torch.set_num_threads, threads)
        options = Options(
            str(folder), out, harmful=str(folder / "harmful.txt"), harmless=str(folder / "harmless.txt"), device="cpu"
        )
        return run(options, progress)


def source_of(options: Options, model: str, progress: Progress) -> Source:
    """Resolve a model under the options that say how."""
    return resolve(
        model,
        revision=options.revision if model == options.model else None,
        offline=options.offline,
        trust_remote_code=options.trust_remote_code,
        progress=progress,
    )


def plain_sequences(tokenizer: PreTrainedTokenizerBase) -> Sequence[Sequence[int]]:
    """Return token ids of a few plain texts, without any chat template."""
    texts = load_prompts(PROOF_TEXTS).first(PROMPTS).prompts
    encoded: list[list[int]] = tokenizer(list(texts))["input_ids"]
    return encoded
