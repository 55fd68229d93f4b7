"""A run before it measures anything: all that can be checked is checked, then the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate.architectures.architecture import Architecture
from abliterate.architectures.layers import check_layer
from abliterate.edits.bias_sites import BiasSite, find_bias_sites
from abliterate.edits.plan import check_edited_dtype, make_plan
from abliterate.errors import InputError
from abliterate.exports.forms import EXPORT_FORMS, PlannedEdit
from abliterate.extras import require
from abliterate.interventions.recipe import Recipe
from abliterate.models.batches import model_device
from abliterate.models.decoding import Decoding
from abliterate.models.generation import REPLY_TOKENS
from abliterate.models.limits import check_memory, check_readable
from abliterate.models.live_model import LiveModel
from abliterate.models.loading import load_model
from abliterate.models.offload import room_left, streaming_of
from abliterate.models.source import Source, load_tokenizer
from abliterate.parallel.devices import hardware
from abliterate.parallel.processes import Processes
from abliterate.pipeline.contradictions import check_options
from abliterate.pipeline.form_direction import OpenedForm, open_form
from abliterate.pipeline.keep_options import KeepOptions
from abliterate.pipeline.open_model import open_model, open_source
from abliterate.pipeline.open_prompts import open_chat, open_keep, open_look_alikes, open_prompts
from abliterate.pipeline.options import Options
from abliterate.pipeline.search_options import SearchOptions
from abliterate.progress import Progress
from abliterate.prompts.splits import PromptSplits
from abliterate.proofs.architecture import own_strengths, prove_addition, random_basis
from abliterate.records.option import changed, declarations, flag_of
from abliterate.storage.cache import cache_folder
from abliterate.storage.record_log import Unfinished, code_digest, digest
from abliterate.storage.staging import check_destination, check_free

NO_SEARCH = (
    "the layers of this model come from the disk, where no gradient can be followed: one direction at strength 1, chosen by "
    "the published rule, instead of a search"
)
"""What a run without the usual search says."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to be measured: where it is from, its writers, its live weights, the prompts for it.

    `form` holds the matched phrases that make the direction, where the training prompts do not. `bias_sites` are the places that can hold an addition, by layer, where one was asked for; `unfinished` is what an
    interrupted run of the same command has left.
    """

    options: Options
    source: Source
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture
    model: PreTrainedModel
    splits: PromptSplits
    unfinished: Unfinished
    bias_sites: Mapping[int, BiasSite] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    form: OpenedForm | None = None

    @property
    def empty(self) -> PreTrainedModel:
        """Return the model without weights, on the meta device."""
        return self.source.empty

    def live(self, progress: Progress) -> LiveModel:
        """Return the live model as one value, watched by `progress`."""
        options = self.options
        decoding = Decoding(options.generation, options.seed)
        return LiveModel(self.model, self.splits.chat, self.architecture, options.batch_size, decoding, progress)


def load_run(options: Options, progress: Progress) -> Loaded:
    """Check everything that can be checked without weights, then load them."""
    check_options(options)
    if options.thought is not None:
        options = replace(options, thinking="on")
    check_free(options.out, options.force)
    harmful, harmless = open_prompts(options)
    look_alikes, keep = open_look_alikes(options, harmful), open_keep(options)
    form = open_form(options)
    source = open_source(options, progress)
    check_destination(source.folder, options.out)
    if "checkpoint" in options.save:
        source.checkpoint.files()  # a link that cannot be copied is named before there is work to lose
    check_edited_dtype(options.edited_dtype, source.checkpoint)
    tokenizer = load_tokenizer(source)
    chat = open_chat(options, tokenizer, tried=harmful.prompts[0])
    if options.date is not None and chat.moment is None:
        raise InputError("--date: the chat template writes no date; leave it away")
    if options.thought is not None:
        chat.think_blocks(harmful.prompts[:1])
    options = replace(options, date=chat.moment)  # the run and its record keep to one day
    splits = PromptSplits(chat, harmful, harmless, options.n_train, look_alikes, keep)
    splits.record()  # a split that stays empty says so before the weights are loaded
    opened = open_model(options, progress, source, options.edit_rank)
    empty, architecture = opened.empty, opened.architecture
    if options.layer is not None:
        check_layer(options.layer, architecture.depth)
    bias_sites: Mapping[int, BiasSite] = {}
    if options.mode == "induce":
        options, bias_sites = with_bias_sites(options, empty, architecture)
    recipe = Recipe.adding(1.0, min(bias_sites)) if bias_sites else any_recipe(options)
    check_forms(options, recipe, source, architecture)
    prompts = [prompt for part in splits.parts() for prompt in part.prompts]
    tokens = [*map(tuple, chat.encode(prompts))]
    if form is not None:
        tokens += form.texts(chat)
        prompts += [str(tokenizer.decode(list(one))) for one in tokens[len(prompts) :]]
    check_readable(empty, prompts, tokens, REPLY_TOKENS + (options.thought or 0))
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    if "checkpoint" not in options.save and streaming_of(model) is not None:
        raise InputError(
            f"{options.model}: does not fit into memory, and with an adapter it cannot stream from the disk; give more "
            "with --max-memory, or use a machine with more"
        )
    if model_device(model).type == "cpu":
        check_memory(model, prompts, tokens, room_left(None))
    options, notes = with_search_settled(options, model)
    unfinished = open_unfinished(options, source, model)
    return Loaded(options, source, tokenizer, architecture, model, splits, unfinished, bias_sites, notes, form)


def with_search_settled(options: Options, model: PreTrainedModel) -> tuple[Options, tuple[str, ...]]:
    """Return the options saying whether there is a search, as the record will; and a note where memory decided that.

    A model whose layers come from the disk has no gradients. Who asked for a search by a flag is told so by the search.
    """
    if options.mode not in ("ablate", "calm"):
        return options, ()
    if options.optimize is None and options.searches and streaming_of(model) is not None:
        known = {**declarations(SearchOptions), **declarations(KeepOptions)}
        asked = [flag_of(name, known[name]) for name in changed(options) if name in known]
        asked += ["--mode calm"] if options.mode == "calm" else []
        if asked:
            flags = ", ".join(asked)
            raise InputError(
                f"{flags}: for a search, which follows gradients through the whole model, and that does not fit into memory; "
                "use a machine with more, or leave them away"
            )
        return replace(options, optimize=False), (NO_SEARCH,)
    return replace(options, optimize=options.searches), ()


def open_unfinished(options: Options, source: Source, model: PreTrainedModel) -> Unfinished:
    """Open what an interrupted run of the same command has left: same options, weights, machine and code.

    What it keeps is named by all else that decides a value: tokens, directions, batches.
    """
    packages = ("torch", "transformers", "accelerate", "peft")
    computed_by = [version(name) if find_spec(name) else None for name in packages]
    machine = hardware(model_device(model)), str(model.dtype)
    identity = [repr(options), source.checkpoint.fingerprint(), machine, computed_by, code_digest()]
    return Unfinished(cache_folder() / "runs" / digest(identity))


def with_bias_sites(
    options: Options, empty: PreTrainedModel, architecture: Architecture
) -> tuple[Options, Mapping[int, BiasSite]]:
    """Return the options with the form that can hold an addition, and the layers where it can.

    A checkpoint holds one where the architecture has biases for it; elsewhere an adapter brings the bias along.
    """
    bias_sites = find_bias_sites(empty, architecture)
    in_weights = {layer: bias_site for layer, bias_site in bias_sites.items() if bias_site.bias}
    if in_weights and "checkpoint" in options.save:
        prove_addition(empty)
        bias_sites = in_weights
    else:
        options = replace(options, save=("adapter",))
        require("train", f"--mode induce, which writes an adapter for {architecture.model_type},", "peft")
    if options.layer is None:
        return options, bias_sites
    if options.layer not in bias_sites:
        raise InputError(
            f"--layer {options.layer}: nothing can be added there; choose among {', '.join(map(str, bias_sites))}"
        )
    return options, {options.layer: bias_sites[options.layer]}


def any_recipe(options: Options) -> Recipe:
    """Return a recipe like the one that a run will make."""
    if options.edit_rank == 1:
        return Recipe.uniform(0.5, options.sites)
    return own_strengths(options.edit_rank, options.sites)


def check_forms(options: Options, recipe: Recipe, source: Source, architecture: Architecture) -> None:
    """Raise InputError where a form of --save could not hold the edit, along any direction: before the search, not after it.

    Each says which flag asks for it.
    """
    wanted = [name for name in EXPORT_FORMS if name in options.save]
    if not wanted:
        return
    any_basis = random_basis(options.edit_rank, architecture.d_model, options.seed)
    plan = make_plan(recipe, any_basis, architecture, source.empty, source.checkpoint)
    for name in wanted:
        try:
            EXPORT_FORMS[name].check(PlannedEdit(plan, architecture, source), options.leave_out)
        except InputError as error:
            raise InputError(f"--save {name}: {error}") from error


def kept_of_choice(loaded: Loaded) -> Unfinished:
    """Return what was kept of a choice. Every process makes all of it, and the first keeps it for all."""
    return loaded.unfinished if Processes.launched().first else loaded.unfinished.reading()
