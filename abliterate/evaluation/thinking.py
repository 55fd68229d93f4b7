"""A model that thinks, in both of its modes: what it declines when it thinks first, and when it replies at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abliterate.evaluation.divergence import diverge
from abliterate.evaluation.observation import Observation, Reply, states_along
from abliterate.evaluation.statistics import Mean, Rate
from abliterate.models.generation import REPLY_TOKENS, generate_all
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.parallel.processes import Processes
from abliterate.prompts.thoughts import opened
from abliterate.replies.behaviours import BEHAVIOURS, REFUSAL, Scorer
from abliterate.storage.record_log import RecordLog


@dataclass(frozen=True)
class Modes:
    """How many prompts of one kind are refused without a thought (`off`), and behind the model's own (`on`).

    `unfinished` thoughts have not ended within their room: what the model would have said is not known, so that they count as
    neither.
    """

    off: Rate
    on: Rate
    unfinished: Rate

    def to_json(self) -> dict[str, Any]:
        """Return the three rates."""
        return {name: rate.to_json() for name, rate in vars(self).items()}


@dataclass(frozen=True)
class ThinkingObservation:
    """Both modes of one model by the kind of prompts, and its predictions along the original's thoughts."""

    modes: Mapping[str, Modes]
    along: Observation


@dataclass(frozen=True)
class Thinking:
    """Both modes of both models by the kind of prompts, with `room` tokens for a thought; `divergence` is KL(original || edited)
    over the original's thoughts about harmless prompts."""

    room: int
    original: Mapping[str, Modes]
    edited: Mapping[str, Modes]
    divergence: Mean

    @classmethod
    def of(cls, room: int, original: ThinkingObservation, edited: ThinkingObservation) -> Thinking:
        """Compare two observations along the same thoughts."""
        return cls(room, original.modes, edited.modes, diverge(original.along, edited.along).over_replies)

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest says."""
        models = {"original": self.original, "edited": self.edited}
        modes = {name: {kind: one.to_json() for kind, one in seen.items()} for name, seen in models.items()}
        return {"room": self.room, **modes, "kl_over_thoughts": self.divergence.to_json()}


def observe_thinking(
    live: LiveModel,
    prompts: Mapping[str, Sequence[str]],
    harmless: str,
    room: int,
    *,
    kept: RecordLog | None = None,
    scorer: Scorer = BEHAVIOURS[REFUSAL],
) -> ThinkingObservation:
    """Let a model reply to each kind of prompts in both modes; thoughts have `room` tokens, replies as many as always.

    `live.chat` holds the original's thoughts; the divergence is followed along those about the kind `harmless`. Raises
    InputError for a template without thoughts.
    """
    chat, tokenizer = live.chat, live.tokenizer
    off = replace(chat, thinking="off", thoughts={})
    kinds = list(prompts)

    def said(groups: list[list[list[int]]], tokens: int, title: str) -> list[list[str]]:
        found = generate_all(
            live.model,
            tokenizer,
            groups,
            tokens,
            kinds=kinds,
            decoding=live.decoding,
            batch_size=live.batch_size,
            kept=kept,
            progress=live.progress,
            title=title,
        )
        return [tokenizer.batch_decode(one) for one in found]

    at_once = said([off.encode(prompts[kind]) for kind in kinds], REPLY_TOKENS, "replies without a thought")
    blocks = [chat.think_blocks(prompts[kind]) for kind in kinds]
    behind = said([opened(chat, one) for one in blocks], room + REPLY_TOKENS, "replies behind a thought")
    modes = {}
    for kind, own, plain, thought in zip(kinds, blocks, at_once, behind, strict=True):
        ended = [text for text, block in zip(thought, own, strict=True) if block.tag in text]
        total = len(thought)
        modes[kind] = Modes(
            Rate(sum(map(scorer.shows, plain)), total),
            Rate(sum(map(scorer.shows, ended)), total),
            Rate(total - len(ended), total),
        )
    return ThinkingObservation(modes, along_thoughts(live, prompts[harmless]))


def along_thoughts(live: LiveModel, prompts: Sequence[str]) -> Observation:
    """Return a model's predictions along the thoughts that `live.chat` holds."""
    chat, tokenizer = live.chat, live.tokenizer
    blocks = chat.think_blocks(prompts)
    thoughts = [chat.thoughts[block.opened].tokens for block in blocks]
    replies = tuple(
        Reply(prompt, tokens, tokenizer.decode(tokens)) for prompt, tokens in zip(prompts, thoughts, strict=True)
    )
    states = states_along(live.model, opened(chat, blocks), replies, live.batch_size, Processes(), live.progress)
    return Observation((), replies, states, Head(live.model))
