"""`abliterate architectures`: which architectures are supported, by proof."""

from __future__ import annotations

from collections.abc import Sequence

from abliterate.progress import SILENT, Progress
from abliterate.proofs.census import Entry, model_types, multimodal_types, prove_each


def architectures(types: Sequence[str] = (), progress: Progress = SILENT) -> list[Entry]:
    """Prove the architectures of these model types on small clones; without any, all that transformers knows."""
    return list(prove_each(types or [*model_types(), *multimodal_types()], progress))
