"""An evaluation: the prompts, the judge, each model in turn, and what is recorded of how it was measured."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from abliterate.errors import InputError
from abliterate.evaluation.divergence import along_replies
from abliterate.evaluation.evaluation import Evaluation, Examined
from abliterate.evaluation.figure_names import LATE
from abliterate.evaluation.figures import JudgedReplies, by_length, damage
from abliterate.evaluation.judges.choose import JudgeOptions
from abliterate.evaluation.judges.choose import choose_judge as judge_of
from abliterate.evaluation.judges.judge import Judge, RuleJudge
from abliterate.evaluation.observation import Reply
from abliterate.evaluation.statistics import Rate
from abliterate.hub.names import shown_name
from abliterate.models.adapter import require_readable
from abliterate.models.same_tokens import Unloaded, check_alike
from abliterate.parallel.processes import Processes
from abliterate.pipeline.conditions import Settled, look_alikes_note
from abliterate.pipeline.evaluate_options import HARMFUL, HARMLESS, LOOK_ALIKES, EvaluateOptions
from abliterate.pipeline.observed_model import ObservedModel, observe_model, standing_on
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.open_prompts import open_chat, open_prompts
from abliterate.pipeline.options import AskOptions
from abliterate.progress import SILENT, Progress
from abliterate.prompts.chat_format import read_template, template_digest
from abliterate.prompts.prompt_set import PromptSet, load_prompts
from abliterate.prompts.sources import public_spec
from abliterate.storage.cache import cache_folder
from abliterate.storage.record_log import digest
from abliterate.studies.phases.labels import onset_of_reply


def evaluate_each(
    options: AskOptions,
    evaluate_options: EvaluateOptions,
    models: Sequence[str],
    against: str | None,
    progress: Progress = SILENT,
    settled: Settled | None = None,
) -> Iterator[Evaluation]:
    """Measure several models, each held against the same other one, which is measured once; one in memory at a time.

    Raises InputError, before any weights are loaded, where one of them reads or predicts other tokens than that.
    """
    for name in [*models, *([against] if against is not None else [])]:
        require_readable(name, options.revision if name == options.model else None, options.offline)
    if evaluate_options.endpoint is None:
        options = on_one_day(options, models[0] if against is None else against, progress)
    sets = load_sets(options, evaluate_options)
    if against is not None:
        check_all(options, models, against, sets, progress)
    judge = choose_judge(options, evaluate_options)
    settings = settings_record(options, evaluate_options, judge, sets, settled)
    notes = settled.notes if settled else ()
    if LOOK_ALIKES in sets:
        notes += look_alikes_note(options, models, settings["prompts"][LOOK_ALIKES]["list"])
    # What an interrupted evaluation has left: the same command goes on after its last batch of replies.
    unfinished = cache_folder() / "evaluations" / digest(repr((options, evaluate_options, list(models), against)))
    first = (
        observe_model(options, evaluate_options, against, sets, None, unfinished, progress)
        if against is not None
        else None
    )
    original = judge_replies(first, judge, progress) if first else None
    for name in models:
        gc.collect()
        # All models get the same tokens: those that the original's template makes.
        own = observe_model(options, evaluate_options, name, sets, first, unfinished, progress)
        examined = judge_replies(own, judge, progress)
        said = (*notes, *dict.fromkeys((*(first.notes if first else ()), *own.notes)))
        if first is None:
            lengths = refusals_by_length(evaluate_options, own)
            yield Evaluation(settings, examined, lengths=lengths, notes=said, late=late_refusals(evaluate_options, own))
            continue
        figures = damage(along_replies(first.seen, own.seen, progress), first.seen.harmless)
        lengths, late = refusals_by_length(evaluate_options, own, first), late_refusals(evaluate_options, own, first)
        yield Evaluation(settings, examined, original, tuple(figures), lengths, said, late)
    if Processes.launched().first:
        shutil.rmtree(unfinished, ignore_errors=True)  # whoever asks again measures anew


def on_one_day(options: AskOptions, name: str, progress: Progress) -> AskOptions:
    """Return the options with the day that a model's chat template writes, today's where none is given: all keep to it.

    Raises InputError for a day that is given to a template that writes none.
    """
    source = open_source(options, progress, standing_on(options, name))
    chat = open_chat(options, Unloaded(shown_name(name), source).tokenizer)
    if options.date is not None and chat.moment is None:
        raise InputError("--date: the chat template writes no date; leave it away")
    return replace(options, date=chat.moment)


def check_all(
    options: AskOptions, models: Sequence[str], against: str, sets: Mapping[str, PromptSet], progress: Progress
) -> None:
    """Raise InputError where a model reads other tokens than `against`, of the prompts as the template of that puts them."""
    original = Unloaded(shown_name(against), open_source(options, progress, standing_on(options, against)))
    chat = open_chat(options, original.tokenizer)
    texts = [text for one in sets.values() for text in chat.texts(one)]
    for name in models:
        # What an adapter stands on is `against`, whatever it says; look() holds it against that.
        if standing_on(options, name) == name:
            check_alike(original, Unloaded(shown_name(name), open_source(options, progress, name)), texts)


def judge_replies(one: ObservedModel, judge: Judge, progress: Progress) -> Examined:
    """Let the judge label every reply."""
    judged = {name: judged_by(judge, replies, progress) for name, replies in one.sets.items()}
    return Examined(one.name, judged, one.losses, one.tasks)


def judged_by(judge: Judge, replies: tuple[Reply, ...], progress: Progress) -> JudgedReplies:
    """Return replies with the judge's labels."""
    return JudgedReplies(replies, tuple(judge.judge([(reply.prompt, reply.text) for reply in replies], progress)))


def refusals_by_length(
    evaluate_options: EvaluateOptions, model: ObservedModel, against: ObservedModel | None = None
) -> tuple[dict[str, object], ...]:
    """Return the refusal rates at several lengths: of the model, and of what it is held against."""
    own, other = (
        by_length(one.sets, evaluate_options.reply_tokens, one.tokenizer.decode) if one else None
        for one in (model, against)
    )
    assert own is not None
    return tuple(
        {
            name: value if name == "tokens" else {"model": value, "against": other[place][name] if other else None}
            for name, value in row.items()
        }
        for place, row in enumerate(own)
    )


def late_refusals(
    evaluate_options: EvaluateOptions, model: ObservedModel, against: ObservedModel | None = None
) -> dict[str, dict[str, Rate | None]]:
    """Return how many replies turn to safety late, by the rules for segments; nothing where replies are too short to."""
    if evaluate_options.reply_tokens <= LATE:
        return {}

    def rate(one: ObservedModel, kind: str) -> Rate:
        late = [onset_of_reply(reply.tokens, one.tokenizer).after(LATE) for reply in one.sets[kind]]
        return Rate(sum(late), len(late))

    return {
        kind: {"model": rate(model, kind), "against": rate(against, kind) if against else None} for kind in model.sets
    }


def load_sets(options: AskOptions, evaluate_options: EvaluateOptions) -> dict[str, PromptSet]:
    """Return the prompts of each kind that are asked: of the report split, or all."""
    harmful, harmless = open_prompts(options)
    sets = {HARMFUL: harmful, HARMLESS: harmless}
    if evaluate_options.split == "report":
        sets = {name: one.side("report") for name, one in sets.items()}
    if evaluate_options.look_alikes is not None:
        # Only a run of --mode calm finds an edit by them, and a note says so: elsewhere all of them are fair.
        sets[LOOK_ALIKES] = load_prompts(evaluate_options.look_alikes, offline=options.offline)
    return {name: one.first(evaluate_options.n_prompts) for name, one in sets.items()}


def choose_judge(options: AskOptions, evaluate_options: EvaluateOptions) -> Judge:
    """Return who labels the replies; the rules in processes beside the first, whose figures nobody sees."""
    if not Processes.launched().first:
        return RuleJudge()
    return judge_of(
        JudgeOptions(
            evaluate_options.judge,
            evaluate_options.judge_endpoint,
            evaluate_options.judge_model,
            evaluate_options.concurrency,
            options.device,
            options.offline,
        )
    )


def settings_record(
    options: AskOptions,
    evaluate_options: EvaluateOptions,
    judge: Judge,
    sets: Mapping[str, PromptSet],
    settled: Settled | None = None,
) -> dict[str, Any]:
    """Return what `evaluation.json` says of how it was measured; folders of this machine stay out of it."""
    template = read_template(options.chat_template)
    lists = {HARMFUL: options.harmful, HARMLESS: options.harmless, LOOK_ALIKES: evaluate_options.look_alikes}
    return {
        "reply_tokens": evaluate_options.reply_tokens,
        "judge": judge.name,
        "split": evaluate_options.split,
        "prompts": {
            name: {
                "spec": one.name,
                "digest": one.digest,
                "count": len(one),
                "list": load_prompts(str(lists[name]), offline=options.offline).digest,
            }
            for name, one in sets.items()
        },
        "dtype": options.dtype,
        "system": options.system,
        "thinking": options.thinking,
        "generation": options.generation,
        **({"seed": options.seed} if options.generation != "greedy" else {}),
        "date": options.date,
        "chat_template": None
        if template is None or options.chat_template is None
        else {"file": options.chat_template.name, "digest": template_digest(template)},
        "conditions": dict(settled.origins) if settled else {},
        "text": public_spec(str(evaluate_options.text)) if evaluate_options.text else None,
        "tasks": list(evaluate_options.tasks),
        "served": evaluate_options.endpoint is not None,
    }
