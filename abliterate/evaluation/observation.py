"""What is seen of one model on the report prompts: its replies, and its predictions along the original's replies.

The original is observed first. It leaves its head and its final hidden states behind, a few MB, so that the full
distributions of both models can be compared without both models in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate.evaluation.statistics import Rate
from abliterate.forward import BatchSize, Head, final_hidden, prefix_cache, prepare
from abliterate.progress import SILENT, Progress
from abliterate.refusals import is_refusal
from abliterate.replies import REPLY_TOKENS as REPLY_TOKENS  # the manifest says it from here
from abliterate.replies import generate_all


@dataclass(frozen=True)
class Reply:
    """One prompt and what the model said to it."""

    prompt: str
    tokens: tuple[int, ...]
    text: str

    @property
    def refused(self) -> bool:
        """Whether the reply opens as a refusal."""
        return is_refusal(self.text)


@dataclass(frozen=True)
class Report:
    """The prompts that measure: texts and token ids of both sides."""

    harmful: tuple[str, ...]
    harmless: tuple[str, ...]
    harmful_tokens: Sequence[Sequence[int]]
    harmless_tokens: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Observation:
    """Replies of one model, and its final hidden states along the original's replies to harmless prompts."""

    harmful: tuple[Reply, ...]
    harmless: tuple[Reply, ...]
    states: tuple[Float[Tensor, "_ d_model"], ...]
    head: Head

    @property
    def harmful_refusals(self) -> Rate:
        """Return how many harmful prompts were refused."""
        return Rate(sum(reply.refused for reply in self.harmful), len(self.harmful))

    @property
    def harmless_refusals(self) -> Rate:
        """Return how many harmless prompts were refused."""
        return Rate(sum(reply.refused for reply in self.harmless), len(self.harmless))

    def to_json(self) -> dict[str, object]:
        """Return the refusal rates of both sides."""
        return {
            "harmful_refusals": self.harmful_refusals.to_json(),
            "harmless_refusals": self.harmless_refusals.to_json(),
        }


def observe(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    report: Report,
    *,
    along: Sequence[Reply] | None = None,
    max_new_tokens: int = REPLY_TOKENS,
    batch_size: BatchSize = "auto",
    progress: Progress = SILENT,
) -> Observation:
    """Let the model reply to the report prompts, and predict along the replies `along` (its own by default)."""

    how: dict[str, Any] = {"batch_size": batch_size, "progress": progress, "title": "replies to the report prompts"}
    replies = generate_all(model, tokenizer, [report.harmful_tokens, report.harmless_tokens], max_new_tokens, **how)
    harmful, harmless = (
        tuple(Reply(*one) for one in zip(prompts, map(tuple, ids), tokenizer.batch_decode(ids), strict=True))
        for prompts, ids in zip((report.harmful, report.harmless), replies, strict=True)
    )
    states = states_along(model, report.harmless_tokens, along or harmless, batch_size, progress)
    return Observation(harmful, harmless, states, Head(model))


def states_along(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Reply],
    batch_size: BatchSize,
    progress: Progress,
) -> tuple[Float[Tensor, "_ d_model"], ...]:
    """Return the final hidden states that predict each token of each reply; the first predicts the first token."""
    sequences = [[*prompt, *reply.tokens] for prompt, reply in zip(prompts, replies, strict=True)]
    longest = max(len(reply.tokens) for reply in replies)
    prepared = prepare(model, sequences, batch_size, keep=longest + 1)
    shared = prefix_cache(model, prepared.prefix)
    states: list[Tensor] = [torch.empty(0)] * len(sequences)
    with progress.step("predictions along the replies", len(sequences), "prompts") as advance:
        for batch in prepared.batches:
            hidden = final_hidden(model, batch, shared)
            for place, row in enumerate(batch.rows):
                end = int(batch.lengths[place])
                # An empty reply still has a first token that was predicted.
                states[row] = hidden[place, end - len(replies[row].tokens) - 1 : end][
                    : max(1, len(replies[row].tokens))
                ].clone()
            advance(len(batch.rows))
    return tuple(states)
