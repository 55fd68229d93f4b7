"""The original that a verb works from: the checkpoint under the options, and plain text for the proof."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from abliterate.progress import Progress
from abliterate.prompts import load_prompts
from abliterate.session import Options
from abliterate.source import Source, resolve
from abliterate.verify import (
    PROMPTS,
)

PROOF_TEXTS = "builtin:everyday"
"""Plain text for proofs where no chat template is at hand: every layer must be silent on any text."""


def source_of(options: Options, model: str, progress: Progress) -> Source:
    """Resolve a model under the options that say how."""
    return resolve(
        model,
        revision=options.revision if model == options.model else None,
        offline=options.offline,
        trust_remote_code=options.trust_remote_code,
        progress=progress,
    )


def plain_sequences(tokenizer: PreTrainedTokenizerBase) -> Sequence[Sequence[int]]:
    """Return token ids of a few plain texts, without any chat template."""
    texts = load_prompts(PROOF_TEXTS).first(PROMPTS).prompts
    encoded: list[list[int]] = tokenizer(list(texts))["input_ids"]
    return encoded
