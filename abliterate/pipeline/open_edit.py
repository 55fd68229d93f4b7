"""The original that a verb works from: the checkpoint that its options name."""

from __future__ import annotations

from abliterate.models.source import Source, resolve
from abliterate.pipeline.options import Options
from abliterate.progress import Progress


def source_of(options: Options, model: str, progress: Progress) -> Source:
    """Resolve a model under the options that say how."""
    return resolve(
        model,
        revision=options.revision if model == options.model else None,
        offline=options.offline,
        trust_remote_code=options.trust_remote_code,
        progress=progress,
    )
