"""`abliterate phases`: when replies turn to safety, and what brings it about."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from pathlib import Path

from abliterate.errors import InputError
from abliterate.evaluation.judges.choose import JudgeOptions, choose_judge
from abliterate.evaluation.judges.judge import Judge
from abliterate.pipeline.open_study import OpenedStudy, open_study
from abliterate.pipeline.study_options import StudyOptions
from abliterate.progress import SILENT, Progress
from abliterate.storage.record_log import Unfinished
from abliterate.studies.layers import layer_of
from abliterate.studies.phases.options import PhasesOptions
from abliterate.studies.phases.record import controls_of, results_of, settings_of, verdicts_of
from abliterate.studies.phases.run import Asked, Phases, Turns, study, turns_of, vectors_to_save
from abliterate.studies.record import StudyRecord


@dataclass(frozen=True)
class PhasesStudy:
    """What was found, its record, and where that was written."""

    found: Phases
    record: StudyRecord
    path: Path | None


def phases(
    options: StudyOptions, phases_options: PhasesOptions | None = None, progress: Progress = SILENT
) -> PhasesStudy:
    """Find when the replies of the model that the options name turn to safety, and write the study where they say.

    Raises InputError for what cannot be read or does not fit.
    """
    chosen = phases_options or PhasesOptions()
    chosen.check()
    judge = judge_of(options, chosen)
    asked = Asked(
        tokens=chosen.reply_tokens,
        samples=options.samples,
        settle=chosen.settle,
        layer=chosen.layer,  # type: ignore[arg-type]
        ways=chosen.vector,
        seed=options.seed,
        quick=options.quick,
    )
    original = None if chosen.against is None else original_turns(options, chosen, asked, progress)
    opened = opened_few(options, chosen, progress)
    layer_of(asked.layer, opened.live.architecture.depth)
    found = study(
        opened.live,
        opened.phrases,
        opened.forms,
        asked,
        before=original.turns if original else None,
        judge=judge,
        kept=opened.kept,
    )
    settings = {**settings_of(found), "original": chosen.against}
    record = opened.record(settings, results_of(found), controls_of(found), verdicts_of(found), found.notes)
    path = opened.finish(record, vectors_to_save(found), found.replies)
    if original is not None:
        original.kept.remove()
    return PhasesStudy(found, record, path)


def judge_of(options: StudyOptions, chosen: PhasesOptions) -> Judge | None:
    """Return the third labeller, None where none is asked for. Raises what making it raises."""
    if chosen.judge is None and chosen.judge_endpoint is None:
        return None
    asked = JudgeOptions(
        chosen.judge, chosen.judge_endpoint, chosen.judge_model, device=options.device, offline=options.offline
    )
    return choose_judge(asked)


def opened_few(options: StudyOptions, chosen: PhasesOptions, progress: Progress) -> OpenedStudy:
    """Open the study with so many of the phrases as are asked."""
    opened = open_study("phases", options, chosen.reply_tokens, progress)
    return replace(opened, phrases=opened.phrases.first(chosen.count))


@dataclass(frozen=True)
class Original:
    """What the original says, and what keeps it until the study of the edited model has finished too."""

    turns: Turns
    kept: Unfinished


def original_turns(options: StudyOptions, chosen: PhasesOptions, asked: Asked, progress: Progress) -> Original:
    """Return what the original says, and let go of it. Raises InputError for one that is the model itself."""
    assert chosen.against is not None
    if chosen.against == options.model:
        raise InputError(f"--against {chosen.against}: is MODEL itself; give the original of the edited model")
    opened = opened_few(replace(options, model=chosen.against, revision=None), chosen, progress)
    original = Original(turns_of(opened.live, opened.phrases, opened.forms, asked, kept=opened.kept), opened.kept)
    del opened
    gc.collect()
    return original
