"""The model that a verb works on: where it is from, without weights, its architecture and the proof of that."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture
from abliterate.models.source import Source, resolve, resolve_config
from abliterate.pipeline.options import ModelOptions
from abliterate.progress import SILENT, Progress
from abliterate.proofs.architecture import Proved, require_proof


@dataclass(frozen=True)
class OpenedModel:
    """A model of which no weights are loaded; `proved` is None where its writers cannot be proved, and that is allowed."""

    source: Source
    architecture: Architecture
    proved: Proved | None

    @property
    def empty(self) -> PreTrainedModel:
        """Return the model without weights, on the meta device."""
        return self.source.empty


def open_source(options: ModelOptions, progress: Progress = SILENT, model: str | None = None) -> Source:
    """Find the checkpoint that the options name, or that of another `model`, whose --revision theirs is not.

    Raises InputError for an unknown model, HubError when the Hub refuses, CheckpointError for damaged files and for
    weights in a format that is not read.
    """
    name = options.model if model is None else model
    return resolve(
        name,
        revision=options.revision if name == options.model else None,
        offline=options.offline,
        trust_remote_code=options.trust_remote_code,
        progress=progress,
    )


def open_config(options: ModelOptions) -> tuple[str, PreTrainedModel]:
    """Return the public name and the empty model of what the options name: of the Hub only small files are fetched.

    Raises InputError for an unknown model or model type, HubError when the Hub refuses.
    """
    return resolve_config(
        options.model,
        revision=options.revision,
        offline=options.offline,
        trust_remote_code=options.trust_remote_code,
    )


def open_model(
    options: ModelOptions, progress: Progress = SILENT, source: Source | None = None, rank: int = 1
) -> OpenedModel:
    """Open the model that the options name: its writers are found and proved; `source` where that is known already.

    The proof is one for edits of `rank` directions.

    Raises what `open_source` raises, InputError for an unknown model type, and, unless the options allow it,
    ArchitectureError and ProofError for writers that cannot be found or proved.
    """
    found = open_source(options, progress) if source is None else source
    architecture, proved = require_proof(found.empty, options.allow_unproved, rank)
    return OpenedModel(found, architecture, proved)
