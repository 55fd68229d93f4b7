"""From a loaded model to what shall be edited: capture, training replies, directions, the choice, the search."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.cache import ActivationCache
from abliterate.activations.capture import Activations, capture
from abliterate.activations.geometry import Geometry, geometry
from abliterate.directions.addition import TRIED_STRENGTHS, Trial, select_inducing, try_strengths
from abliterate.directions.basis import spread_basis
from abliterate.directions.candidates import Selection
from abliterate.directions.directions import Directions
from abliterate.directions.methods import make_directions
from abliterate.directions.selection import select
from abliterate.directions.start import select_start
from abliterate.errors import InputError
from abliterate.evaluation.judges.choose import JudgeOptions as JudgeChoice
from abliterate.evaluation.judges.choose import choose_judge
from abliterate.evaluation.judges.judge import Judge
from abliterate.models.batches import model_device
from abliterate.models.decoding import Decoding
from abliterate.parallel.processes import Processes
from abliterate.pipeline.calm import calm_directions, true_refusals
from abliterate.pipeline.form_direction import form_directions
from abliterate.pipeline.kept import collect_kept
from abliterate.pipeline.load import Loaded, kept_of_choice, load_run
from abliterate.pipeline.options import Options
from abliterate.pipeline.replies import TrainingReplies, collect_training_replies
from abliterate.pipeline.thoughts import think, with_thoughts
from abliterate.progress import SILENT, Advance, Progress
from abliterate.replies.behaviours import BEHAVIOURS
from abliterate.search.kept import Kept
from abliterate.search.pressure import limit_of
from abliterate.search.stages import SearchData, SearchResult, search, search_settings
from abliterate.search.variables import Variables
from abliterate.storage.cache import cache_folder


def capture_training(loaded: Loaded, progress: Progress) -> tuple[Activations, Activations]:
    """Capture both sides of the training prompts, or take them from the cache: at the template's tokens and the one before.

    That one ends the instruction, where harmfulness is said to sit (arXiv 2507.11878); no direction is made there, and behind
    thoughts of different lengths it has no place of its own. Both
    sides together, because a model that streams from the disk is read once for each call.
    """
    harmful, harmless = loaded.splits.training()
    chat = loaded.splits.chat
    both = capture(
        loaded.model,
        chat,
        [*harmful.prompts, *harmless.prompts],
        positions=sorted({*chat.positions(), *([] if chat.thoughts else [chat.instruction_end()])}),
        batch_size=loaded.options.batch_size,
        cache=ActivationCache(cache_folder() / "activations", loaded.source.checkpoint.fingerprint()),
        architecture=loaded.architecture,
        processes=Processes.launched(),
        kept=loaded.unfinished,
        progress=progress,
    )
    return both.rows(range(len(harmful))), both.rows(range(len(harmful), len(both.resid)))


def find_directions(
    loaded: Loaded, training_replies: TrainingReplies, harmful: Activations, harmless: Activations
) -> Directions:
    """Return the directions between what the model refuses and what it answers, at the template's tokens."""
    source, record = loaded.source, loaded.splits.record()
    metadata = {
        "model": source.public_name,
        "revision": source.revision,
        "harmful": record["harmful"]["digest"],
        "harmless": record["harmless"]["digest"],
    }
    method = loaded.options.direction
    places = loaded.splits.chat.positions()
    return make_directions(
        harmful.at(places).rows(training_replies.harmful),
        harmless.at(places).rows(training_replies.harmless),
        method,
        metadata,
    )


def optimise(
    loaded: Loaded,
    training_replies: TrainingReplies,
    directions: Directions,
    selection: Selection,
    progress: Progress,
    basis: Float[Tensor, "k d_model"] | None = None,
    kept: Kept = Kept(),  # noqa: B008 (frozen)
) -> SearchResult | None:
    """Search for a better edit than the automatic choice, beginning with it; None where none was asked for.

    `kept` are refusals that shall stay. `basis` has the directions to begin with, where they are several. What an interrupted search has done is kept in the
    user's cache.
    """
    options = loaded.options
    if not options.searches:
        return None
    chosen = selection.chosen
    first = directions.at(chosen.layer, chosen.position)
    start = Variables.start(loaded.architecture, first if basis is None else basis, options.sites)
    data = search_data(loaded, training_replies, kept)
    if options.thought is not None:
        data = with_thoughts(loaded, data, progress)
    judge = judge_of(loaded)
    found = search(
        loaded.live(progress),
        start,
        data,
        seed=options.seed,
        target_refusals=options.target_refusals,
        max_kl=options.max_kl,
        max_lost=options.max_lost,
        pick=options.pick,
        state_file=None if loaded.unfinished.notes else state_file(loaded, start, data, judge),
        keeping=loaded.unfinished.writing,
        shows=BEHAVIOURS[options.target].shows,
        verdicts=None if judge is None else partial(verdicts, judge, loaded.splits.selecting()[0].prompts, progress),
    )
    return found if judge is None else replace(found, judge=judge.name)


def search_data(loaded: Loaded, training_replies: TrainingReplies, kept: Kept) -> SearchData:
    """Return what a search sees: the training prompts with the original's replies, and those that judge."""
    sides = (*loaded.splits.training(), *loaded.splits.selecting())
    harmful, harmless, judging, staying = ([*map(tuple, loaded.splits.chat.encode(one.prompts))] for one in sides)
    return SearchData(harmful, harmless, judging, staying, training_replies.replies, kept)


def judge_of(loaded: Loaded) -> Judge | None:
    """Return who counts refusals at the ends of stages, None where the rules do. Raises what making it raises."""
    options = loaded.options
    if not options.judged:
        return None
    if Processes.launched().count > 1:
        raise InputError("--judge is asked by one process; run it without a launcher, or let the rules count")
    asked = options.judge, options.judge_endpoint, options.judge_model
    return choose_judge(JudgeChoice(*asked, device=options.device, offline=options.offline))


def verdicts(judge: Judge, prompts: Sequence[str], progress: Progress, replies: Sequence[str]) -> list[bool]:
    """Return which replies a judge calls refusals."""
    return [label == "refused" for label in judge.judge([*zip(prompts, replies, strict=True)], progress)]


def state_file(loaded: Loaded, start: Variables, data: SearchData, judge: Judge | None = None) -> Path:
    """Return where a search is kept in the user's cache: under everything that decides what it finds."""
    options, model = loaded.options, loaded.model
    asked = options.sites, options.seed, options.batch_size, Decoding(options.generation, options.seed).key(model)
    run_by = loaded.source.checkpoint.fingerprint(), model.dtype, model_device(model).type
    identity = hashlib.sha256(start.direction.numpy().tobytes())
    counted_by = options.target, judge and (judge.name, options.judge, options.judge_endpoint, options.judge_model)
    limits = (
        limit_of(options.target_refusals, options.max_kl, options.pick),
        options.max_lost,
    )  # the last stages close in on them
    identity.update(repr([vars(data), asked, run_by, counted_by, limits, search_settings()]).encode())
    return cache_folder() / "searches" / f"{identity.hexdigest()}.safetensors"


def choose_place(
    loaded: Loaded, training_replies: TrainingReplies, directions: Directions, progress: Progress
) -> Selection:
    """Choose layer and position on the select split: by the published rule, or where a search shall begin."""
    harmful, harmless = (loaded.splits.chat.encode(part.prompts) for part in loaded.splits.selecting())
    if loaded.options.searches and loaded.options.layer is None:
        live, openings = loaded.live(progress), training_replies.openings
        return select_start(live, directions, openings, harmful, harmless, kept=kept_of_choice(loaded))
    return select(
        loaded.live(progress),
        directions,
        training_replies.openings,
        harmful,
        harmless,
        layer=loaded.options.layer,
        ask_induce=not training_replies.few_refusals,
        kept=kept_of_choice(loaded),
    )


def choose_addition(
    loaded: Loaded, training_replies: TrainingReplies, directions: Directions, progress: Progress
) -> tuple[Selection, tuple[Trial, ...]]:
    """Choose layer, position and strength of what is added on the select split; return the trials, the best first."""
    options, live = loaded.options, loaded.live(progress)
    harmful, harmless = (loaded.splits.chat.encode(part.prompts) for part in loaded.splits.selecting())
    kept = kept_of_choice(loaded)
    ranked = select_inducing(
        live,
        directions,
        training_replies.openings,
        harmful,
        harmless,
        [*loaded.bias_sites],
        kept=kept,
    )
    strengths = TRIED_STRENGTHS if options.strength is None else (options.strength,)
    trials = try_strengths(live, directions, ranked, harmful, harmless, strengths, kept=kept)
    place = trials[0].layer, trials[0].position
    chosen = next(one for one in ranked.candidates if (one.layer, one.position) == place)
    return replace(ranked, chosen=chosen), trials


@dataclass
class Clock:
    """Seconds that each step of a run took, in order; `advance` is told of each."""

    seconds: dict[str, float] = field(default_factory=dict)
    advance: Advance | None = None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Record the time inside the context under `name`."""
        begin = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begin
        if self.advance:
            self.advance(1)


@dataclass(frozen=True)
class Finding:
    """What a run has found before it writes anything; `geometry` is that of the prompts that make the direction.

    `trials` are the strengths that were tried of an addition, the best first; `found` what a search has found. `truly` are the
    harmful prompts that are refused, where others make the direction.
    """

    loaded: Loaded
    training_replies: TrainingReplies
    directions: Directions
    selection: Selection
    geometry: Geometry
    trials: tuple[Trial, ...] = ()
    found: SearchResult | None = None
    truly: tuple[str, ...] | None = None

    @property
    def prompts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the harmful and harmless prompts that the geometry is of."""
        harmful, harmless = (side.prompts for side in self.loaded.splits.training())
        refused = tuple(harmful[place] for place in self.training_replies.harmful)
        answered = tuple(harmless[place] for place in self.training_replies.harmless)
        return refused if self.truly is None else self.truly, answered


def find(options: Options, clock: Clock, progress: Progress) -> Finding:
    """Load the model, and find the direction, the layer, and by a search the strengths: all that needs no writing.

    Under `accelerate launch` every process calls this; capture, replies and search are shared out among them.
    """
    torch.manual_seed(options.seed)
    with clock.step("load"):
        loaded = load_run(options, progress)
    if options.thought is not None:
        with clock.step("think"):
            loaded = think(loaded, progress)
    with clock.step("capture"):
        harmful, harmless = capture_training(loaded, progress)
    with clock.step("listen"):
        training_replies = collect_training_replies(loaded, progress)
        kept = collect_kept(loaded, progress)
        refused, answered = harmful.rows(training_replies.harmful), harmless.rows(training_replies.harmless)
        truly = true_refusals(loaded, kept, answered, progress) if loaded.splits.look_alikes else None
        if truly is not None:
            over_refusal = find_directions(loaded, training_replies, harmful, harmless)
            directions = calm_directions(loaded, over_refusal, truly.activations, answered)
        elif loaded.form is None:
            directions = find_directions(loaded, training_replies, harmful, harmless)
        else:
            log = kept_of_choice(loaded)
            directions = form_directions(loaded.live(progress), loaded.form, options, loaded.source, log)
    trials: tuple[Trial, ...] = ()
    with clock.step("choose"):
        if options.mode == "induce":
            selection, trials = choose_addition(loaded, training_replies, directions, progress)
        else:
            selection = choose_place(loaded, training_replies, directions, progress)
    parting = geometry(
        truly.activations if truly else refused,
        answered,
        selection.chosen.position,
        None if loaded.splits.chat.thoughts else loaded.splits.chat.instruction_end(),
    )
    prompts = truly.prompts if truly else None
    finding = Finding(loaded, training_replies, directions, selection, parting, trials, truly=prompts)
    if not options.searches:
        return finding
    basis = None
    if options.edit_rank > 1:
        basis = starting_basis(finding, refused, answered)
    with clock.step("search"):
        found = optimise(loaded, training_replies, directions, selection, progress, basis, kept.kept)
    return replace(finding, found=found)


def starting_basis(finding: Finding, refused: Activations, answered: Activations) -> Float[Tensor, "k d_model"]:
    """Return the directions that a search of several begins with, at the place of the automatic choice."""
    chosen = finding.selection.chosen
    place = [chosen.position]
    return spread_basis(
        finding.directions.at(chosen.layer, chosen.position),
        refused.at(place).resid[:, 0, chosen.layer],
        answered.at(place).mean()[0, chosen.layer],
        finding.loaded.options.edit_rank,
    )


def assist(options: Options) -> None:
    """Take part in what another process leads and writes down: all but the proof and the report's figures."""
    find(options, Clock(), SILENT)
