"""`abliterate features`: sparse features are learned; what rows mean in words and where they are active; what steering by them does."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abliterate.errors import InputError
from abliterate.evaluation.served.endpoint import Endpoint, served_model
from abliterate.evaluation.served.reply_cache import ReplyCache
from abliterate.extras import require
from abliterate.models.live_model import LiveModel
from abliterate.pipeline.corpus_options import CorpusOptions
from abliterate.pipeline.open_live import OpenedLive, open_live
from abliterate.pipeline.open_study import open_study
from abliterate.pipeline.study_options import StudyOptions
from abliterate.progress import SILENT, Progress
from abliterate.prompts.prompt_set import load_prompts
from abliterate.storage.cache import cache_folder
from abliterate.storage.record_log import digest
from abliterate.storage.staging import Staging, check_free
from abliterate.studies.common import Verdict
from abliterate.studies.features import steer_record, trained
from abliterate.studies.features.activity import activity_of
from abliterate.studies.features.autoencoder import SparseAutoencoder
from abliterate.studies.features.changed import changes_of
from abliterate.studies.features.corpus import Corpus, corpus_of, prompts_of
from abliterate.studies.features.names import Namer
from abliterate.studies.features.options import ExplainOptions, RowOptions, SteerOptions, TrainOptions
from abliterate.studies.features.record import controls_of, results_of, settings_of, verdicts_of
from abliterate.studies.features.rows import Rows, read_rows, rows_of
from abliterate.studies.features.run import Features, study
from abliterate.studies.features.steer import Asked, Defence
from abliterate.studies.features.steer import steer as steered
from abliterate.studies.features.texts import normal_of
from abliterate.studies.features.train import Plan
from abliterate.studies.features.trained import Trained, budget, train_on
from abliterate.studies.features.words import Vocabulary, read_vocabulary, vocabulary
from abliterate.studies.record import StudyRecord, write_study

LAYER = 0.6
"""Of the depth: where an SAE is trained unless --layer says where."""


@dataclass(frozen=True)
class FeaturesStudy:
    """What was found, its record, and where that was written."""

    found: Features
    record: StudyRecord
    path: Path | None


def explain(options: CorpusOptions, chosen: ExplainOptions, progress: Progress = SILENT) -> FeaturesStudy:
    """Say what rows mean, and write the study where the options say. Raises InputError for what cannot be read or does not fit."""
    namer = namer_of(chosen)
    sae, path = opened_rows(chosen, options.offline)
    listed = None if chosen.vocabulary is None else text_of(chosen.vocabulary)
    prompts = prompts_of(options.corpus, options.texts, offline=options.offline)
    opened = open_live("features explain", options, progress)
    rows = rows_for(opened.live, opened.source.public_name, chosen, sae, path)
    rows = rows.some(rows.named(chosen.row)) if chosen.row else rows
    corpus = corpus_of(opened.live, options.corpus, prompts, options.reply_tokens, opened.kept)
    words = words_for(corpus, chosen, listed)
    found = study(
        opened.live, rows, corpus, words, count=chosen.words, rule=chosen.rule, temperature=chosen.temperature, seed=options.seed,
    )  # fmt: skip
    found = found if namer is None else named(found, namer, progress)
    results, settings = results_of(found), settings_of(found, chosen.temperature)
    settings |= {} if namer is None else {"named_by": namer.name}
    if chosen.edited is not None:
        opened = replace(opened, live=replace(opened.live, model=opened.source.empty))  # one model in memory at a time
        results["changed"] = changed_by(options, chosen.edited, found, progress)
        settings["edited"] = Path(chosen.edited).name
    record = record_of(
        opened, options, corpus, settings, results, controls_of(found), verdicts_of(found), found.notes,
    )  # fmt: skip
    return FeaturesStudy(found, record, finish(opened, options, record))


def namer_of(chosen: ExplainOptions) -> Namer | None:
    """Return the served model that names rows, None where none is asked. Raises InputError, before a model is opened, without it."""
    chosen.check()
    if chosen.judge_endpoint is None:
        return None
    endpoint = Endpoint(chosen.judge_endpoint, chosen.judge_model, named_by="--judge-model")
    endpoint = replace(endpoint, model=endpoint.model or served_model(endpoint))
    return Namer(endpoint, cache=ReplyCache(cache_folder() / "feature-names"))


def named(found: Features, namer: Namer, progress: Progress) -> Features:
    """Return the rows with a line for each."""
    names = namer.names(found.evidence, progress)
    return replace(found, names=names, notes=(*found.notes, *namer.notes(names)))


def changed_by(options: CorpusOptions, edited: str, found: Features, progress: Progress) -> list[dict[str, object]]:
    """Return the rows whose activity an edit changed most. Raises InputError where it is no edit of the same model."""
    if found.activity is None:
        raise InputError(
            "--edited: the rows are of no layer, so that nothing is known of where they are active; give --layer"
        )
    gc.collect()
    other = open_live("features explain, edited", replace(options, model=edited, revision=None, out=None), progress)
    if other.live.architecture.d_model != found.rows.vectors.shape[1] or other.live.architecture.depth < max(
        one for one in found.rows.layers if one is not None
    ):
        raise InputError(f"--edited {edited}: is of another width or depth than MODEL; give an edit of it")
    after = activity_of(other.live, found.corpus, found.rows)
    other.kept.remove()
    words = found.explained.words
    return [one.to_json(found.rows.names, words) for one in changes_of(found.activity, after)]


@dataclass(frozen=True)
class TrainStudy:
    """The SAE that was trained, its record, and the folder of both."""

    found: Trained
    record: StudyRecord
    out: Path


def train(options: CorpusOptions, chosen: TrainOptions, progress: Progress = SILENT) -> TrainStudy:
    """Train an SAE on the model's states, and write its folder whole. Raises InputError where sae-lens is not installed."""
    require("features", "training an SAE", "sae_lens")
    if options.out is None:
        raise InputError("--out is missing; give the folder that the SAE goes to")
    check_free(options.out)
    prompts = prompts_of(options.corpus, options.texts, offline=options.offline)
    opened = open_live("features train", options, progress)
    layer = chosen.layer or round(LAYER * opened.live.architecture.depth)
    plan = Plan(chosen.features, chosen.active, chosen.epochs, chosen.batch, options.seed)
    with progress.step(
        budget(opened.live, prompts, plan, chosen.tokens, options.reply_tokens), 1, "estimate"
    ) as advance:
        advance(1)
    corpus = corpus_of(opened.live, options.corpus, prompts, options.reply_tokens, opened.kept)
    left = opened.kept.path.parent / f"{layer}-{digest([repr(chosen)])[:16]}"
    found = train_on(opened.live, opened.source.public_name, corpus, layer, plan, chosen.tokens, left)
    record = record_of(
        opened, options, corpus, trained.settings_of(found, corpus), trained.results_of(found), trained.controls_of(found),
        trained.verdicts_of(found), found.notes,
    )  # fmt: skip
    with Staging.open(options.out, opened.kept.path.parent.name) as staging:
        found.sae.save(staging.folder)
        write_study(staging.folder, record)
        staging.publish()
    opened.kept.remove()
    return TrainStudy(found, record, options.out)


@dataclass(frozen=True)
class SteerStudy:
    """What steering does, its record, and where that was written."""

    found: Defence
    record: StudyRecord
    path: Path | None


def steer(options: StudyOptions, chosen: SteerOptions, progress: Progress = SILENT) -> SteerStudy:
    """Steer by features of a concept, and write what that does where the options say.

    Raises InputError for what cannot be read or does not fit.
    """
    sae, path = opened_rows(chosen, options.offline)
    for spec in chosen.normal:
        load_prompts(spec, offline=options.offline)  # read again behind the model, whose template puts them
    opened = open_study("features", options, chosen.reply_tokens, progress)
    rows = rows_for(opened.live, opened.source.public_name, chosen, sae, path)
    rows = rows.some(rows.named(chosen.row)) if chosen.row else rows
    normal = normal_of(opened.live, chosen.normal, offline=options.offline)
    concept = "rows" if sae is None and chosen.concept == "safety" else chosen.concept
    asked = Asked(
        concept, chosen.amplify, chosen.calibrate, chosen.raise_to, chosen.orthogonal, chosen.keep_norm, chosen.when == "token",
        chosen.reply_tokens, chosen.per_group, options.seed, options.quick,
    )  # fmt: skip
    found = steered(opened.live, rows, opened.phrases, opened.forms, normal, asked, opened.kept)
    record = opened.record(
        steer_record.settings_of(found), steer_record.results_of(found), steer_record.controls_of(found),
        steer_record.verdicts_of(found), found.notes,
    )  # fmt: skip
    path_written = None if options.out is None else write_study(options.out, record)
    opened.kept.remove()
    return SteerStudy(found, record, path_written)


def opened_rows(chosen: RowOptions, offline: bool) -> tuple[SparseAutoencoder | None, Path | None]:
    """Return the SAE that is named, or the file. Raises InputError, before a model is opened, where it cannot be read."""
    if chosen.sae is None:
        raise InputError("--sae is missing; give the folder or Hub id of an SAE, or a .safetensors file of directions")
    path = Path(chosen.sae).expanduser()
    if path.suffix == ".safetensors":
        return None, path
    return SparseAutoencoder.load(chosen.sae, offline=offline), None


def rows_for(live: LiveModel, name: str, chosen: RowOptions, sae: SparseAutoencoder | None, path: Path | None) -> Rows:
    """Return the rows that are meant, checked against the model."""
    width, depth = live.architecture.d_model, live.architecture.depth
    if sae is not None:
        return rows_of(sae, sae.check(name, width, depth, chosen.layer), Path(str(chosen.sae)).name)
    assert path is not None
    return read_rows(path, width, chosen.layer)


def text_of(path: Path) -> str:
    """Return the text of a list of words. Raises InputError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--vocabulary {path}: cannot be read ({error}); give a file of words") from error


def words_for(corpus: Corpus, chosen: ExplainOptions, listed: str | None) -> Vocabulary:
    """Return the vocabulary that words are chosen from."""
    return vocabulary(corpus.texts, chosen.most_words) if listed is None else read_vocabulary(listed, corpus.texts)


def record_of(
    opened: OpenedLive,
    options: CorpusOptions,
    corpus: Corpus,
    settings: dict[str, object],
    results: dict[str, object],
    controls: dict[str, object],
    verdicts: Sequence[Verdict],
    notes: Sequence[str],
) -> StudyRecord:
    """Return the record of a study of features."""
    common = {
        "system": options.system, "thinking": options.thinking, "date": opened.live.chat.moment,
        "reply_tokens": options.reply_tokens,
    }  # fmt: skip
    return StudyRecord(
        "features", opened.source.public_name, opened.source.revision, opened.dtype, {"corpus": corpus.digest}, options.seed,
        {**common, **settings}, results, controls, tuple(verdicts), (*opened.source.oddities, *notes, *opened.kept.notes),
    )  # fmt: skip


def finish(opened: OpenedLive, options: CorpusOptions, record: StudyRecord) -> Path | None:
    """Write the record where --out says, forget what was kept, and return the record's path."""
    path = None if options.out is None else write_study(options.out, record)
    opened.kept.remove()
    return path
