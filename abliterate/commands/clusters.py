"""`abliterate clusters`: is there one refusal direction, or are there several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from abliterate.extras import require
from abliterate.models.loading import DTYPE_WORDS
from abliterate.pipeline.open_study import open_study
from abliterate.pipeline.study_options import StudyOptions
from abliterate.progress import SILENT, Progress
from abliterate.prompts.forms import load_forms
from abliterate.studies.clusters.asked import Asked
from abliterate.studies.clusters.margin import check_digits
from abliterate.studies.clusters.material import frames_of
from abliterate.studies.clusters.options import ClustersOptions
from abliterate.studies.clusters.record import controls_of, results_of, settings_of, verdicts_of
from abliterate.studies.clusters.run import Clusters, check_possible, study, vectors_to_save
from abliterate.studies.record import StudyRecord


@dataclass(frozen=True)
class ClustersStudy:
    """What was found, its record, and where that was written."""

    found: Clusters
    record: StudyRecord
    path: Path | None


def clusters(
    options: StudyOptions, clusters_options: ClustersOptions | None = None, progress: Progress = SILENT
) -> ClustersStudy:
    """Find out whether the model that the options name has one refusal direction, and write the study where they say.

    With --dtype auto the model is loaded in float32, which gradients need. Raises InputError for what cannot be read or does
    not fit, NoRefusalsError for a model that never refuses.
    """
    require("study", "clusters")
    chosen = clusters_options or ClustersOptions()
    options = replace(options, samples=0, dtype="float32" if options.dtype == "auto" else options.dtype)
    check_digits(DTYPE_WORDS[options.dtype])  # before anything is loaded
    forms = frames_of(chosen.frame, load_forms(options.forms, language=options.language))
    opened = open_study("clusters", options, chosen.reply_tokens, progress, forms)
    asked = Asked(
        method=chosen.method,  # type: ignore[arg-type]
        layer=chosen.layer,  # type: ignore[arg-type]
        clusters=chosen.clusters,  # type: ignore[arg-type]
        anchor=chosen.anchor,  # type: ignore[arg-type]
        target=chosen.target,  # type: ignore[arg-type]
        step=chosen.step,  # type: ignore[arg-type]
        compare=chosen.compare,
        tokens=chosen.reply_tokens,
        seed=options.seed,
        quick=options.quick,
    )
    check_possible(opened.live, asked)
    found = study(opened.live, opened.phrases, opened.forms, asked, opened.kept)
    settings = {**settings_of(found), "frame": chosen.frame}
    record = opened.record(settings, results_of(found), controls_of(found), verdicts_of(found), found.notes)
    return ClustersStudy(found, record, opened.finish(record, vectors_to_save(found), found.material.replies))
