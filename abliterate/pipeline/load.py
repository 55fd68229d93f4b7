"""What a run has at hand: its options, the prompts, the loaded model, what it heard, the directions, the choice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate.activations.cache import ActivationCache
from abliterate.activations.capture import Activations, capture
from abliterate.architectures.architecture import Architecture
from abliterate.directions.addition import STRENGTHS, Trial, select_inducing, try_strengths
from abliterate.directions.candidates import Selection
from abliterate.directions.directions import Directions
from abliterate.directions.methods import difference_in_means
from abliterate.directions.selection import select
from abliterate.edits.bias_sites import Adder, find_adders
from abliterate.edits.plan import check_edited_dtype, make_plan
from abliterate.errors import InputError
from abliterate.exports.peft_adapter import prepare
from abliterate.extras import require
from abliterate.interventions.recipe import Recipe
from abliterate.models.batches import model_device
from abliterate.models.generation import REPLY_TOKENS, generate_all
from abliterate.models.loading import load_model
from abliterate.models.offload import streaming_of
from abliterate.models.source import Source, load_empty, load_tokenizer, resolve
from abliterate.parallel.processes import Processes
from abliterate.pipeline.options import Options, check_options
from abliterate.progress import Progress
from abliterate.prompts.chat_format import ChatFormat, read_template
from abliterate.prompts.prompt_set import check_pair, load_prompts
from abliterate.prompts.splits import Material
from abliterate.proofs.architecture import prove_addition, require_proof
from abliterate.records.manifest import hardware
from abliterate.replies.openings import Opening, find_openings
from abliterate.replies.refusals import is_refusal
from abliterate.search.stages import Found, Pool, search, settings
from abliterate.search.variables import Variables
from abliterate.storage.cache import cache_folder
from abliterate.storage.record_log import Unfinished, code_digest, digest
from abliterate.storage.staging import check_destination, check_free

OPENINGS_COVERAGE = 0.75
"""Share of the refusals that the openings must cover. The rest are lectures that begin with the subject of the prompt:
each would be a context of its own, on which every candidate had to be run."""

ENOUGH_REFUSALS = 16
"""From so many refused prompts on, the direction rests on those alone (and on the answered harmless ones), as the
published procedure filters its prompts; below it rests on all of them, and the result says so."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to be measured: where it is from, its writers, its live weights, the prompts for it.

    `adders` are the places that can hold an addition, by layer, where one was asked for; `unfinished` is what an
    interrupted run of the same command has left.
    """

    options: Options
    source: Source
    tokenizer: PreTrainedTokenizerBase
    empty: PreTrainedModel
    architecture: Architecture
    model: PreTrainedModel
    material: Material
    unfinished: Unfinished
    adders: Mapping[int, Adder] = field(default_factory=dict)


@dataclass(frozen=True)
class Heard:
    """How the model opens its refusals, which training prompts (by place) make the direction, does it hardly refuse.

    `replies` are those to the harmful training prompts, with the verdict on each.
    """

    openings: tuple[Opening, ...]
    harmful: Sequence[int]
    harmless: Sequence[int]
    hardly: bool
    notes: tuple[str, ...]
    replies: tuple[tuple[tuple[int, ...], bool], ...]

    def record(self, prompts: dict[str, Any]) -> dict[str, Any]:
        """Return the record of the prompts with how many of the training prompts were used."""
        used = {"harmful": len(self.harmful), "harmless": len(self.harmless)}
        return {side: {**prompts[side], "used": used[side]} for side in prompts}


def load(options: Options, progress: Progress) -> Loaded:
    """Check everything that can be checked without weights, then load them."""
    check_options(options)
    check_free(options.out, options.force)
    harmful = load_prompts(options.harmful, offline=options.offline)
    harmless = load_prompts(options.harmless, offline=options.offline)
    check_pair(harmful, harmless)
    source = resolve(
        options.model,
        revision=options.revision,
        offline=options.offline,
        trust_remote_code=options.trust_remote_code,
        progress=progress,
    )
    check_destination(source.folder, options.out)
    check_edited_dtype(options.edited_dtype, source.checkpoint)
    tokenizer = load_tokenizer(source)
    chat = ChatFormat(tokenizer, options.system, options.thinking, read_template(options.chat_template))
    chat.render(harmful.prompts[0])  # a template that fails does so before the weights are loaded
    material = Material(chat, harmful, harmless, options.n_train)
    material.record()  # as does a split that stays empty
    empty = load_empty(source)
    architecture, _ = require_proof(empty, options.allow_unproved)
    if options.layer is not None and not 1 <= options.layer < architecture.depth:
        raise InputError(
            f"--layer {options.layer} is out of range; this model has layers 1 to {architecture.depth - 1}"
        )
    adders: Mapping[int, Adder] = {}
    if options.mode == "induce":
        options, adders = with_adders(options, empty, architecture)
    if "checkpoint" not in options.save:
        recipe = Recipe.adding(1.0, min(adders)) if adders else Recipe.uniform(0.5, options.sites)
        check_adapter(recipe, source, empty, architecture)
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    if "checkpoint" not in options.save and streaming_of(model) is not None:
        raise InputError(
            f"{options.model}: does not fit into memory, and with an adapter it cannot stream from the disk; give more "
            "with --max-memory, or use a machine with more"
        )
    unfinished = open_unfinished(options, source, model)
    return Loaded(options, source, tokenizer, empty, architecture, model, material, unfinished, adders)


def open_unfinished(options: Options, source: Source, model: PreTrainedModel) -> Unfinished:
    """Open what an interrupted run of the same command has left: same options, weights, machine and code.

    What it keeps is named by all else that decides a value: tokens, directions, batches.
    """
    packages = ("torch", "transformers", "accelerate", "peft")
    computed_by = [version(name) if find_spec(name) else None for name in packages]
    machine = hardware(model_device(model)), str(model.dtype)
    identity = [repr(options), source.checkpoint.fingerprint(), machine, computed_by, code_digest()]
    return Unfinished(cache_folder() / "runs" / digest(identity))


def with_adders(
    options: Options, empty: PreTrainedModel, architecture: Architecture
) -> tuple[Options, Mapping[int, Adder]]:
    """Return the options with the form that can hold an addition, and the layers where it can.

    A checkpoint holds one where the architecture has biases for it; elsewhere an adapter brings the bias along.
    """
    adders = find_adders(empty, architecture)
    in_weights = {layer: adder for layer, adder in adders.items() if adder.bias}
    if in_weights and "checkpoint" in options.save:
        prove_addition(empty)
        adders = in_weights
    else:
        options = replace(options, save=("adapter",))
        require("train", f"--mode induce, which writes an adapter for {architecture.model_type},", "peft")
    if options.layer is None:
        return options, adders
    if options.layer not in adders:
        raise InputError(
            f"--layer {options.layer}: nothing can be added there; choose among {', '.join(map(str, adders))}"
        )
    return options, {options.layer: adders[options.layer]}


def capture_training(loaded: Loaded, progress: Progress) -> tuple[Activations, Activations]:
    """Capture both sides of the training prompts, or take them from the cache.

    Together, because a model that streams from the disk is read once for each call.
    """
    harmful, harmless = loaded.material.training()
    both = capture(
        loaded.model,
        loaded.material.chat,
        [*harmful.prompts, *harmless.prompts],
        batch_size=loaded.options.batch_size,
        cache=ActivationCache(cache_folder() / "activations", loaded.source.checkpoint.fingerprint()),
        architecture=loaded.architecture,
        processes=Processes.launched(),
        kept=loaded.unfinished,
        progress=progress,
    )
    return both.rows(range(len(harmful))), both.rows(range(len(harmful), len(both.resid)))


def listen(loaded: Loaded, progress: Progress) -> Heard:
    """Let the model reply to the training prompts, and sort the replies by the ruler that also measures.

    Raises NoRefusalsError when it refuses none.
    """
    training = [loaded.material.chat.encode(prompts.prompts) for prompts in loaded.material.training()]
    replies = generate_all(
        loaded.model,
        loaded.tokenizer,
        training,
        REPLY_TOKENS,
        batch_size=loaded.options.batch_size,
        processes=Processes.launched(),
        kept=loaded.unfinished.under("listen"),
        progress=progress,
        title="how refusals and answers open",
    )
    refused = [[is_refusal(text) for text in loaded.tokenizer.batch_decode(side)] for side in replies]
    flat = [
        (reply, verdict)
        for side, verdicts in zip(replies, refused, strict=True)
        for reply, verdict in zip(side, verdicts, strict=True)
    ]
    openings = find_openings(
        [reply for reply, verdict in flat if verdict],
        [reply for reply, verdict in flat if not verdict],
        coverage=OPENINGS_COVERAGE,
    )
    harmful = [place for place, verdict in enumerate(refused[0]) if verdict]
    harmless = [place for place, verdict in enumerate(refused[1]) if not verdict]
    said = tuple(zip(map(tuple, replies[0]), refused[0], strict=True))
    if len(harmful) < ENOUGH_REFUSALS or len(harmless) < ENOUGH_REFUSALS:
        note = (
            f"the model hardly refuses: {len(harmful)} of {len(refused[0])} harmful training prompts; "
            "the direction rests on all of them, refused or not, induce was not asked for: read the figures with care"
        )
        return Heard(openings, range(len(refused[0])), range(len(refused[1])), True, (note,), said)
    return Heard(openings, harmful, harmless, False, (), said)


def find_directions(loaded: Loaded, heard: Heard, harmful: Activations, harmless: Activations) -> Directions:
    """Return the directions between what the model refuses and what it answers."""
    source, record = loaded.source, loaded.material.record()
    metadata = {
        "model": source.public_name,
        "revision": source.revision,
        "harmful": record["harmful"]["digest"],
        "harmless": record["harmless"]["digest"],
    }
    method = loaded.options.direction
    return difference_in_means(harmful.rows(heard.harmful), harmless.rows(heard.harmless), method, metadata)


def optimise(
    loaded: Loaded, heard: Heard, directions: Directions, selection: Selection, progress: Progress
) -> Found | None:
    """Search for a better edit than the automatic choice, beginning with it; None where none was asked for.

    What an interrupted search has done is kept in the user's cache.
    """
    options = loaded.options
    if not options.optimize:
        return None
    sides = (*loaded.material.training(), *loaded.material.selecting())
    harmful, harmless, judging, staying = ([*map(tuple, loaded.material.chat.encode(one.prompts))] for one in sides)
    chosen = selection.chosen
    start = Variables.start(loaded.architecture, directions.at(chosen.layer, chosen.position), options.sites)
    pool = Pool(harmful, harmless, judging, staying, heard.replies)
    return search(
        loaded.model,
        loaded.tokenizer,
        loaded.architecture,
        start,
        pool,
        seed=options.seed,
        target_refusals=options.target_refusals,
        max_kl=options.max_kl,
        batch_size=options.batch_size,
        state_file=None if loaded.unfinished.notes else state_file(loaded, start, pool),
        progress=progress,
    )


def state_file(loaded: Loaded, start: Variables, pool: Pool) -> Path:
    """Return where a search is kept in the user's cache: under everything that decides what it finds."""
    options, model = loaded.options, loaded.model
    asked = options.sites, options.seed, options.batch_size
    run_by = loaded.source.checkpoint.fingerprint(), model.dtype, model_device(model).type
    identity = hashlib.sha256(start.direction.numpy().tobytes())
    identity.update(repr([vars(pool), asked, run_by, settings()]).encode())
    return cache_folder() / "searches" / f"{identity.hexdigest()}.safetensors"


def check_adapter(recipe: Recipe, source: Source, empty: PreTrainedModel, architecture: Architecture) -> None:
    """Raise InputError where no adapter could hold the edit, along any direction: before the search, not after it."""
    any_direction = torch.nn.functional.normalize(torch.ones(architecture.d_model), dim=0)
    plan = make_plan(recipe, any_direction, architecture, empty, source.checkpoint)
    prepare(plan, empty, architecture, source.checkpoint, source.public_name, source.revision)


def kept_of_choice(loaded: Loaded) -> Unfinished:
    """Return what was kept of a choice. Every process makes all of it, and the first keeps it for all."""
    return loaded.unfinished if Processes.launched().first else loaded.unfinished.reading()


def choose_place(loaded: Loaded, heard: Heard, directions: Directions, progress: Progress) -> Selection:
    """Choose layer and position on the select split."""
    harmful, harmless = (loaded.material.chat.encode(part.prompts) for part in loaded.material.selecting())
    return select(
        loaded.model,
        loaded.architecture,
        directions,
        heard.openings,
        harmful,
        harmless,
        layer=loaded.options.layer,
        ask_induce=not heard.hardly,
        batch_size=loaded.options.batch_size,
        kept=kept_of_choice(loaded),
        progress=progress,
    )


def choose_addition(
    loaded: Loaded, heard: Heard, directions: Directions, progress: Progress
) -> tuple[Selection, tuple[Trial, ...]]:
    """Choose layer, position and strength of what is added on the select split; return the trials, the best first."""
    options, model = loaded.options, loaded.model
    harmful, harmless = (loaded.material.chat.encode(part.prompts) for part in loaded.material.selecting())
    how: dict[str, Any] = {"batch_size": options.batch_size, "kept": kept_of_choice(loaded), "progress": progress}
    ranked = select_inducing(
        model, loaded.architecture, directions, heard.openings, harmful, harmless, [*loaded.adders], **how
    )
    strengths = STRENGTHS if options.strength is None else (options.strength,)
    trials = try_strengths(
        model, loaded.tokenizer, loaded.architecture, directions, ranked, harmful, harmless, strengths, **how
    )
    place = trials[0].layer, trials[0].position
    chosen = next(one for one in ranked.candidates if (one.layer, one.position) == place)
    return replace(ranked, chosen=chosen), trials
