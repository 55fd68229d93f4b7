"""`abliterate evaluate`: measure a model, and what changed from the original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from abliterate.errors import InputError
from abliterate.evaluation.evaluation import Evaluation, Examined
from abliterate.evaluation.judges.judge import Judge
from abliterate.evaluation.served.endpoint import Endpoint
from abliterate.evaluation.served.replies import served_replies
from abliterate.evaluation.served.reply_cache import ReplyCache
from abliterate.pipeline.conditions import Settled
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.evaluation import choose_judge, evaluate_each, judged_by, load_sets, settings_record
from abliterate.pipeline.options import AskOptions
from abliterate.progress import SILENT, Progress
from abliterate.prompts.prompt import Prompt
from abliterate.prompts.prompt_set import PromptSet
from abliterate.storage.cache import cache_folder
from abliterate.storage.foreign_files import read_json


def evaluate(
    options: AskOptions,
    evaluate_options: EvaluateOptions,
    against: str | None,
    progress: Progress = SILENT,
    settled: Settled | None = None,
) -> Evaluation:
    """Measure `options.model`, and hold it against `against` where one is given.

    `settled` says where the conditions in `options` come from, where they were not all chosen by the caller.

    With `wanted.endpoint` both are names on that server. Under a launcher every process calls this, and all get the
    same figures. Raises AbliterateError with one line that says what to do.
    """
    evaluate_options.check(options)
    if evaluate_options.endpoint:
        sets, judge = load_sets(options, evaluate_options), choose_judge(options, evaluate_options)
        settings = settings_record(options, evaluate_options, judge, sets, settled)
        return evaluate_served(options, evaluate_options, against, sets, judge, settings, progress)
    (one,) = evaluate_each(options, evaluate_options, [options.model], against, progress, settled)
    return one


def evaluate_served(
    options: AskOptions,
    evaluate_options: EvaluateOptions,
    against: str | None,
    sets: Mapping[str, PromptSet],
    judge: Judge,
    settings: Mapping[str, Any],
    progress: Progress,
) -> Evaluation:
    """Measure what a server's models say; `against` is another name on the same server."""
    endpoint = Endpoint(str(evaluate_options.endpoint), evaluate_options.served_model)
    check_served(options, sets)
    prompts = {name: one.prompts for name, one in sets.items()}
    examined, notes = [], []
    cache = ReplyCache(cache_folder() / "replies")
    for one in [endpoint] if against is None else [endpoint, replace(endpoint, model=against)]:
        given, cached = served_replies(
            one,
            prompts,
            evaluate_options.reply_tokens,
            system=options.system,
            concurrency=evaluate_options.concurrency,
            cache=cache,
            progress=progress,
        )
        name = one.model or "the served model"
        if cached:
            notes.append(f"{name}: {cached} replies were kept from before, in {cache_folder() / 'replies'}")
        judged = {kind: judged_by(judge, replies, progress) for kind, replies in given.items()}
        examined.append(Examined(name, judged))
    notes += [*cache.notes, *getattr(judge, "notes", ())]
    return Evaluation(settings, examined[0], examined[1] if against else None, notes=tuple(notes))


def check_served(options: AskOptions, sets: Mapping[str, PromptSet]) -> None:
    """Raise InputError for prompts with system messages of their own, unless --system takes the place of all."""
    for name, one in sets.items():
        if options.system is None and any(isinstance(prompt, Prompt) and prompt.system for prompt in one.prompts):
            raise InputError(
                f"the {name} prompts, {one.name}, bring system messages, and --endpoint asks without; pass --system TEXT, or "
                "a list of plain prompts"
            )


def check_out(path: Path | None) -> None:
    """Raise InputError, before anything is measured, for a file that could not be written."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"--out {path}: give a file in a folder that is there, such as DIR/evaluation.json")
    if path.is_file() and not is_evaluation(path):
        raise InputError(f"--out {path}: is there, and is no earlier evaluation; choose another name")


def is_evaluation(path: Path) -> bool:
    """Return whether a file holds what `--out` writes."""
    try:
        held = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(held, dict) and {"format", "settings", "sets", "figures"} <= held.keys()
