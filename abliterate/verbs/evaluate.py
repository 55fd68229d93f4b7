"""`abliterate evaluate`: measure a model, and what changed from the original."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import transformers
from transformers import PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.evaluation.capability import capability
from abliterate.evaluation.divergence import along_replies
from abliterate.evaluation.endpoint import Endpoint
from abliterate.evaluation.endpoint_judge import EndpointJudge
from abliterate.evaluation.evaluation import Capability, Evaluation, Examined
from abliterate.evaluation.figures import Judged, by_length, damage
from abliterate.evaluation.judges import ClassifierJudge, Judge, RuleJudge
from abliterate.evaluation.observation import Asked, Observation, Reply, Report, observe
from abliterate.evaluation.reply_cache import ReplyCache
from abliterate.evaluation.served import served_replies
from abliterate.evaluation.text_loss import read_windows, text_losses
from abliterate.kept import KeptRecords, digest
from abliterate.loading import load_model
from abliterate.processes import Processes
from abliterate.progress import SILENT, Progress
from abliterate.prompts import PromptSet, check_pair, load_prompts, public_spec
from abliterate.session import Options, read_template
from abliterate.source import cache_folder, load_tokenizer
from abliterate.template import ChatFormat
from abliterate.verbs.original import source_of

Split = Literal["report", "all"]
SPLITS: tuple[Split, ...] = get_args(Split)

HARMFUL, HARMLESS, LOOK_ALIKES = "harmful", "harmless", "look-alikes"


@dataclass(frozen=True)
class Wanted:
    """What an evaluation measures, and how; the defaults are those of the command.

    `split` says which prompts count: those that no run has used to find or choose an edit, or all of a list.
    """

    reply_tokens: int = 128
    n_prompts: int = 100
    split: Split = "report"
    look_alikes: str | None = "builtin:look-alikes"
    text: Path | None = None
    judge: str | None = None
    judge_endpoint: str | None = None
    judge_model: str | None = None
    endpoint: str | None = None
    served_model: str | None = None
    concurrency: int = 8
    tasks: tuple[str, ...] = ()
    task_limit: int | None = None

    def check(self, options: Options) -> None:
        """Raise InputError for what contradicts itself."""
        if bool(options.model) == bool(self.endpoint):
            raise InputError("evaluate needs a MODEL, or --endpoint URL and what it serves; give one of the two")
        if self.judge and self.judge_endpoint:
            raise InputError("--judge and --judge-endpoint: one judge decides; leave one of them away")
        for flag, value, needs, given in (
            ("--judge-model", self.judge_model, "--judge-endpoint", self.judge_endpoint),
            ("--served-model", self.served_model, "--endpoint", self.endpoint),
        ):
            if value and not given:
                raise InputError(f"{flag} names a model on a server; add {needs} URL")
        for flag, number in (("--reply-tokens", self.reply_tokens), ("--n-prompts", self.n_prompts)):
            if number < 1:
                raise InputError(f"{flag} {number}: give a number from 1 up")
        if Processes.launched().count > 1 and (self.endpoint or self.tasks):
            raise InputError("--endpoint and --tasks share their work out themselves; run them without a launcher")
        if not self.endpoint:
            return
        if self.text or self.tasks:
            raise InputError("--endpoint gives replies only; leave --text and --tasks away, or evaluate the files")
        if options.thinking != "auto" or options.chat_template:
            raise InputError(
                "the server applies the chat template: start it with the one you want, and leave it away here"
            )

    def record(self, options: Options, judge: Judge, sets: Mapping[str, PromptSet]) -> dict[str, Any]:
        """Return what `evaluation.json` says of how it was measured; folders of this machine stay out of it."""
        return {
            "reply_tokens": self.reply_tokens,
            "judge": judge.name,
            "split": self.split,
            "prompts": {
                name: {"spec": one.name, "digest": one.digest, "count": len(one)} for name, one in sets.items()
            },
            "dtype": options.dtype,
            "system": options.system,
            "thinking": options.thinking,
            "text": public_spec(str(self.text)) if self.text else None,
            "tasks": list(self.tasks),
            "served": self.endpoint is not None,
        }


def evaluate(options: Options, wanted: Wanted, against: str | None, progress: Progress = SILENT) -> Evaluation:
    """Measure `options.model`, and hold it against `against` where one is given.

    With `wanted.endpoint` both are names on that server. Under a launcher every process calls this, and all get the
    same figures. Raises AbliterateError with one line that says what to do.
    """
    wanted.check(options)
    if wanted.endpoint:
        sets, judge = load_sets(options, wanted), choose_judge(options, wanted)
        return evaluate_served(options, wanted, against, sets, judge, wanted.record(options, judge, sets), progress)
    (one,) = evaluate_each(options, wanted, [options.model], against, progress)
    return one


def evaluate_each(
    options: Options, wanted: Wanted, models: Sequence[str], against: str | None, progress: Progress = SILENT
) -> Iterator[Evaluation]:
    """Measure several models, each held against the same other one, which is measured once; one in memory at a time."""
    sets, judge = load_sets(options, wanted), choose_judge(options, wanted)
    settings = wanted.record(options, judge, sets)
    # What an interrupted evaluation has left: the same command goes on after its last batch of replies.
    unfinished = cache_folder() / "evaluations" / digest(repr((options, wanted, list(models), against)))
    first = look(options, wanted, against, sets, None, unfinished, progress) if against is not None else None
    original = examine(first, judge, progress) if first else None
    for name in models:
        gc.collect()
        # All models get the same tokens: those that the original's template makes.
        own = look(options, wanted, name, sets, first, unfinished, progress)
        examined = examine(own, judge, progress)
        if first is None:
            yield Evaluation(settings, examined, lengths=sweep(wanted, own))
            continue
        figures = damage(along_replies(first.seen, own.seen, progress), first.seen.harmless)
        yield Evaluation(settings, examined, original, tuple(figures), sweep(wanted, own, first))
    if Processes.launched().first:
        shutil.rmtree(unfinished, ignore_errors=True)  # whoever asks again measures anew


@dataclass(frozen=True)
class Look:
    """One model as it was seen, with the tokens that it was asked."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    report: Report
    windows: Sequence[Sequence[int]]
    seen: Observation
    losses: tuple[float, ...]
    tasks: Capability

    @property
    def sets(self) -> dict[str, tuple[Reply, ...]]:
        """Return the replies by kind of prompt."""
        named = ((HARMFUL, self.seen.harmful), (HARMLESS, self.seen.harmless), (LOOK_ALIKES, self.seen.look_alikes))
        return {name: replies for name, replies in named if replies}


def look(
    options: Options,
    wanted: Wanted,
    name: str,
    sets: Mapping[str, PromptSet],
    first: Look | None,
    unfinished: Path,
    progress: Progress,
) -> Look:
    """Load a model and see what it says and predicts; along the replies of `first`, where that is given."""
    source = source_of(options, name, progress)
    tokenizer = load_tokenizer(source)
    report, windows = (first.report, first.windows) if first else questions(options, wanted, sets, tokenizer)
    group = Processes.launched()
    how: dict[str, Any] = {"batch_size": options.batch_size, "processes": group, "progress": progress}
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    along = first.seen.harmless if first else None
    identity = digest(
        [
            source.checkpoint.fingerprint(),
            str(model.dtype),
            str(model.device),
            torch.__version__,
            transformers.__version__,
        ]
    )
    kept = KeptRecords(unfinished / f"{identity}.jsonl")
    seen = observe(model, tokenizer, report, along=along, max_new_tokens=wanted.reply_tokens, kept=kept, **how)
    losses = tuple(text_losses(model, windows, **how)) if windows else ()
    tasks: Capability = {}
    if wanted.tasks:
        size = options.batch_size
        tasks = capability(model, tokenizer, wanted.tasks, limit=wanted.task_limit, batch_size=size, progress=progress)
    return Look(source.public_name, tokenizer, report, windows, seen, losses, tasks)


def questions(
    options: Options, wanted: Wanted, sets: Mapping[str, PromptSet], tokenizer: PreTrainedTokenizerBase
) -> tuple[Report, list[list[int]]]:
    """Return the prompts as the model sees them, and the windows of the text."""
    chat = ChatFormat(tokenizer, options.system, options.thinking, read_template(options.chat_template))
    asked = {name: Asked(one.prompts, chat.encode(one.prompts)) for name, one in sets.items()}
    report = Report(asked[HARMFUL], asked[HARMLESS], asked.get(LOOK_ALIKES, Asked((), ())))
    return report, read_windows(wanted.text, tokenizer) if wanted.text else []


def examine(one: Look, judge: Judge, progress: Progress) -> Examined:
    """Let the judge label every reply."""
    judged = {name: judged_by(judge, replies, progress) for name, replies in one.sets.items()}
    return Examined(one.name, judged, one.losses, one.tasks)


def judged_by(judge: Judge, replies: tuple[Reply, ...], progress: Progress) -> Judged:
    """Return replies with the judge's labels."""
    return Judged(replies, tuple(judge.judge([(reply.prompt, reply.text) for reply in replies], progress)))


def sweep(wanted: Wanted, model: Look, against: Look | None = None) -> tuple[dict[str, object], ...]:
    """Return the refusal rates at several lengths: of the model, and of what it is held against."""
    own, other = (
        by_length(one.sets, wanted.reply_tokens, one.tokenizer.decode) if one else None for one in (model, against)
    )
    assert own is not None
    return tuple(
        {
            name: value if name == "tokens" else {"model": value, "against": other[place][name] if other else None}
            for name, value in row.items()
        }
        for place, row in enumerate(own)
    )


def evaluate_served(
    options: Options,
    wanted: Wanted,
    against: str | None,
    sets: Mapping[str, PromptSet],
    judge: Judge,
    settings: Mapping[str, Any],
    progress: Progress,
) -> Evaluation:
    """Measure what a server's models say; `against` is another name on the same server."""
    endpoint = Endpoint(str(wanted.endpoint), wanted.served_model)
    prompts = {name: one.prompts for name, one in sets.items()}
    examined, notes = [], []
    for one in [endpoint] if against is None else [endpoint, replace(endpoint, model=against)]:
        given, cached = served_replies(
            one,
            prompts,
            wanted.reply_tokens,
            system=options.system,
            concurrency=wanted.concurrency,
            cache=ReplyCache(cache_folder() / "replies"),
            progress=progress,
        )
        name = one.model or "the served model"
        if cached:
            notes.append(f"{name}: {cached} replies were kept from before, in {cache_folder() / 'replies'}")
        judged = {kind: judged_by(judge, replies, progress) for kind, replies in given.items()}
        examined.append(Examined(name, judged))
    return Evaluation(settings, examined[0], examined[1] if against else None, notes=tuple(notes))


def load_sets(options: Options, wanted: Wanted) -> dict[str, PromptSet]:
    """Return the prompts of each kind that are asked: of the report split, or all."""
    harmful, harmless = (load_prompts(spec, offline=options.offline) for spec in (options.harmful, options.harmless))
    check_pair(harmful, harmless)
    sets = {HARMFUL: harmful, HARMLESS: harmless}
    if wanted.split == "report":
        sets = {name: one.side("report") for name, one in sets.items()}
    if wanted.look_alikes is not None:
        # No run finds or chooses an edit by them: all of them are fair.
        sets[LOOK_ALIKES] = load_prompts(wanted.look_alikes, offline=options.offline)
    return {name: one.first(wanted.n_prompts) for name, one in sets.items()}


def check_out(path: Path | None) -> None:
    """Raise InputError, before anything is measured, for a file that could not be written."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise InputError(f"--out {path}: give a file in a folder that is there, such as DIR/evaluation.json")


def choose_judge(options: Options, wanted: Wanted) -> Judge:
    """Return who labels the replies."""
    if wanted.judge:
        return ClassifierJudge.load(wanted.judge, options.device, options.offline)
    if wanted.judge_endpoint:
        cache = ReplyCache(cache_folder() / "judgements")
        return EndpointJudge(Endpoint(wanted.judge_endpoint, wanted.judge_model), wanted.concurrency, cache)
    return RuleJudge()
