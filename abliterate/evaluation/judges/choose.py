"""Who labels the replies: one table of judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from abliterate.errors import InputError
from abliterate.evaluation.judges.classifier import ClassifierJudge
from abliterate.evaluation.judges.judge import Judge, RuleJudge
from abliterate.evaluation.judges.served import EndpointJudge
from abliterate.evaluation.served.endpoint import Endpoint
from abliterate.evaluation.served.reply_cache import ReplyCache
from abliterate.storage.cache import cache_folder


@dataclass(frozen=True)
class JudgeOptions:
    """Which judge is asked for, and with what.

    `name` is what `--judge` says: a judge of the table by its word, else a classifier on the Hub or in a folder.
    `endpoint` is the address of a served judge, and `served_model` its name there.
    """

    name: str | None = None
    endpoint: str | None = None
    served_model: str | None = None
    concurrency: int = 8
    device: str = "auto"
    offline: bool = False


def classifier(options: JudgeOptions) -> Judge:
    """Load the classifier that `--judge` names."""
    return ClassifierJudge.load(str(options.name), options.device, options.offline)


def served(options: JudgeOptions) -> Judge:
    """Return the judge at `--judge-endpoint`; its answers are kept. Raises InputError without an address."""
    if options.endpoint is None:
        raise InputError("--judge served: say where it is with --judge-endpoint URL")
    endpoint = Endpoint(options.endpoint, options.served_model, named_by="--judge-model")
    return EndpointJudge(endpoint, options.concurrency, ReplyCache(cache_folder() / "judgements"))


JUDGES: dict[str, Callable[[JudgeOptions], Judge]] = {
    "rules": lambda options: RuleJudge(),
    "classifier": classifier,
    "served": served,
}
"""What makes each judge, by the word that `--judge` takes for it."""


def choose_judge(options: JudgeOptions) -> Judge:
    """Return the judge that is asked for: with an endpoint the served one, without any word the rules.

    Raises what making it raises.
    """
    if options.endpoint:
        return JUDGES["served"](options)
    if not options.name:
        return JUDGES["rules"](options)
    return JUDGES.get(options.name, classifier)(options)
