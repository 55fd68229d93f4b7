"""`abliterate positions`: where refusal is represented, by form and location."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from abliterate.activations.cache import ActivationCache
from abliterate.directions.files import read_directions
from abliterate.errors import InputError
from abliterate.pipeline.open_study import OpenedStudy, open_study
from abliterate.pipeline.study_options import StudyOptions
from abliterate.progress import SILENT, Progress
from abliterate.prompts.prompt_set import load_prompts
from abliterate.storage.cache import cache_folder
from abliterate.studies.positions.options import PositionsOptions
from abliterate.studies.positions.record import controls_of, results_of, settings_of, verdicts_of
from abliterate.studies.positions.run import Asked, Positions, layers_of, study, vectors_to_save
from abliterate.studies.record import StudyRecord

LOOK_ALIKES = 40
"""Look-alikes that are looked at, at most."""


@dataclass(frozen=True)
class PositionsStudy:
    """What was found, its record, and where that was written."""

    found: Positions
    record: StudyRecord
    path: Path | None


def positions(
    options: StudyOptions, positions_options: PositionsOptions | None = None, progress: Progress = SILENT
) -> PositionsStudy:
    """Find where the model that the options name represents refusal, and write the study where they say.

    Raises InputError for what cannot be read or does not fit, NoRefusalsError for a model that never refuses.
    """
    chosen = positions_options or PositionsOptions()
    spec = chosen.look_alikes
    look_alikes = () if spec is None else load_prompts(spec, offline=options.offline).prompts[:LOOK_ALIKES]
    opened = open_study("positions", options, chosen.reply_tokens, progress)
    architecture = opened.live.architecture
    layers_of(chosen.layer, architecture.depth)  # type: ignore[arg-type]
    asked = Asked(
        layers=chosen.layer,  # type: ignore[arg-type]
        samples=options.samples,
        tokens=chosen.reply_tokens,
        alphas=chosen.alphas,
        seed=options.seed,
        quick=options.quick,
        look_alikes=tuple(map(str, look_alikes)) if templated(opened) else (),
        against=directions_against(chosen.against_direction, architecture.d_model),
    )
    cache = ActivationCache(cache_folder() / "activations", opened.source.checkpoint.fingerprint())
    found = study(opened.live, opened.phrases, opened.forms, asked, kept=opened.kept, cache=cache)
    record = opened.record(settings_of(found), results_of(found), controls_of(found), verdicts_of(found), found.notes)
    return PositionsStudy(found, record, opened.finish(record, vectors_to_save(found), found.replies))


def templated(opened: OpenedStudy) -> bool:
    """Return whether the study asks under the chat template at all."""
    return any(form.where == "user" for form in opened.forms)


def directions_against(path: Path | None, d_model: int) -> Mapping[int, Float[Tensor, " d_model"]]:
    """Return the directions of a run by layer. Raises InputError for a file that has none, or is of another model."""
    if path is None:
        return {}
    rows, _ = read_directions(path)
    found = {int(name.removeprefix("resid.")): row.float() for name, row in rows.items() if name[6:].isdigit()}
    if not found:
        raise InputError(f"--against-direction {path}: holds no resid.N; give the directions.safetensors of a run")
    width = len(next(iter(found.values())))
    if width != d_model:
        raise InputError(f"--against-direction {path}: its directions are {width} wide, and the model is {d_model}")
    return found
