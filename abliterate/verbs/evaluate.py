"""`abliterate evaluate`: measure a model, and what changed from the original."""

from __future__ import annotations

import gc
from dataclasses import dataclass

from abliterate.evaluation.divergence import Divergence, diverge
from abliterate.evaluation.observation import Observation, Report, observe
from abliterate.loading import load_model
from abliterate.progress import SILENT, Progress
from abliterate.prompts import check_pair, load_prompts
from abliterate.session import Material, Options, read_template
from abliterate.source import load_tokenizer
from abliterate.template import ChatFormat
from abliterate.verbs.original import source_of


@dataclass(frozen=True)
class Evaluated:
    """One model on the report prompts, and another held against it; `divergence` is KL(against || model)."""

    model: Observation
    against: Observation | None
    divergence: Divergence | None


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
