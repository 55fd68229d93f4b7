"""One model as an evaluation sees it: loaded, asked, let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate.checkpoints.checkpoint import content_hash
from abliterate.checkpoints.snapshot import Snapshot
from abliterate.evaluation.evaluation import Capability
from abliterate.evaluation.observation import Observation, Reply, observe
from abliterate.evaluation.tasks import capability
from abliterate.evaluation.text_loss import read_windows, text_losses
from abliterate.models.adapter import adapter_folder, attach, base_of
from abliterate.models.decoding import Decoding
from abliterate.models.limits import check_readable
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer
from abliterate.parallel.processes import Processes
from abliterate.pipeline.evaluate_options import HARMFUL, HARMLESS, LOOK_ALIKES, EvaluateOptions
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.open_prompts import open_chat
from abliterate.pipeline.options import AskOptions
from abliterate.progress import Progress
from abliterate.prompts.prompt_set import PromptSet
from abliterate.prompts.splits import Asked, Report
from abliterate.records.manifest import check_source, manifest_beside, part
from abliterate.storage.names import ADAPTER_WEIGHTS
from abliterate.storage.record_log import Unfinished, digest


@dataclass(frozen=True)
class ObservedModel:
    """One model as it was seen, with the tokens that it was asked; `base` is what an adapter stands on, else itself."""

    name: str
    base: str
    tokenizer: PreTrainedTokenizerBase
    report: Report
    windows: Sequence[Sequence[int]]
    seen: Observation
    losses: tuple[float, ...]
    tasks: Capability
    notes: tuple[str, ...] = ()

    @property
    def sets(self) -> dict[str, tuple[Reply, ...]]:
        """Return the replies by kind of prompt."""
        named = ((HARMFUL, self.seen.harmful), (HARMLESS, self.seen.harmless), (LOOK_ALIKES, self.seen.look_alikes))
        return {name: replies for name, replies in named if replies}


def observe_model(
    options: AskOptions,
    evaluate_options: EvaluateOptions,
    name: str,
    sets: Mapping[str, PromptSet],
    first: ObservedModel | None,
    unfinished: Path,
    progress: Progress,
) -> ObservedModel:
    """Load a model and see what it says and predicts; along the replies of `first`, where that is given.

    Raises InputError where its files changed meanwhile.
    """
    folder = adapter_folder(name, options.revision if name == options.model else None, options.offline)
    base = name if folder is None else first.base if first else base_of(folder)
    source = open_source(options, progress, base)
    manifest = None if folder is None else manifest_beside(folder)
    if folder is not None and manifest is not None:
        check_source(folder, part(manifest, "source"), source, progress)
    tokenizer = load_tokenizer(source)
    report, windows = (first.report, first.windows) if first else questions(options, evaluate_options, sets, tokenizer)
    for asked in (report.harmful, report.harmless, report.look_alikes):
        check_readable(source.empty, asked.prompts, asked.tokens, evaluate_options.reply_tokens)
    opened = [source.checkpoint.snapshot]
    opened += [] if folder is None else [Snapshot.of(folder, [ADAPTER_WEIGHTS])]
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    weights = source.checkpoint.fingerprint()
    if folder is not None:
        attach(model, folder)
        model.enable_adapters()
        weights += content_hash(folder / ADAPTER_WEIGHTS)
    along = first.seen.harmless if first else None
    versions = [str(torch.__version__), transformers.__version__]
    identity = digest([weights, str(model.dtype), str(model.device), *versions])
    kept = Unfinished(unfinished / identity)
    seen = observe(
        model,
        tokenizer,
        report,
        along=along,
        max_new_tokens=evaluate_options.reply_tokens,
        batch_size=options.batch_size,
        decoding=Decoding(options.generation, options.seed),
        processes=Processes.launched(),
        kept=kept,
        progress=progress,
    )
    losses, tasks = losses_and_tasks(model, tokenizer, windows, options, evaluate_options, progress)
    for one in opened:
        one.require_unchanged()
    shown = source.shown_name if folder is None else folder.resolve().name
    return ObservedModel(shown, base, tokenizer, report, windows, seen, losses, tasks, kept.notes)


def losses_and_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    windows: Sequence[Sequence[int]],
    options: AskOptions,
    evaluate_options: EvaluateOptions,
    progress: Progress,
) -> tuple[tuple[float, ...], Capability]:
    """Return the losses on the windows of a text, and how the model does in tasks, as far as they were asked for."""
    losses: tuple[float, ...] = ()
    if windows:
        group = Processes.launched()
        losses = tuple(text_losses(model, windows, batch_size=options.batch_size, processes=group, progress=progress))
    tasks: Capability = {}
    if evaluate_options.tasks:
        tasks = capability(
            model,
            tokenizer,
            evaluate_options.tasks,
            limit=evaluate_options.task_limit,
            batch_size=options.batch_size,
            trust_remote_code=options.trust_remote_code,
            progress=progress,
        )
    return losses, tasks


def standing_on(options: AskOptions, name: str) -> str:
    """Return the model that a name stands for: what an adapter says it belongs to, else itself."""
    folder = adapter_folder(name, options.revision if name == options.model else None, options.offline)
    return name if folder is None else base_of(folder)


def questions(
    options: AskOptions,
    evaluate_options: EvaluateOptions,
    sets: Mapping[str, PromptSet],
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[Report, list[list[int]]]:
    """Return the prompts as the model sees them, and the windows of the text."""
    chat = open_chat(options, tokenizer)
    asked = {name: Asked(one.prompts, chat.encode(one.prompts)) for name, one in sets.items()}
    report = Report(asked[HARMFUL], asked[HARMLESS], asked.get(LOOK_ALIKES, Asked((), ())))
    return report, read_windows(evaluate_options.text, tokenizer) if evaluate_options.text else []
