"""What the losses look at: the places where refusals part from answers, and the harmless prompts that an edit hurts.

A refusal shows where it parts from an answer to the same prompt: "Picking a lock is | illegal" beside "Picking a lock
is | a skill". The model's own replies, refused and answered, say where that is. So no table of openings is needed, a
model that begins to decline in other words is met with those words, and one place costs one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Tokens = tuple[int, ...]

MOST_SHARED = 12
"""Tokens of a reply, at most, before the place that decides."""


@dataclass(frozen=True)
class DivergencePoint:
    """A prompt with the beginning of a reply; `declining` are the next tokens that lead to a refusal."""

    tokens: Tokens
    declining: Tokens


@dataclass(frozen=True)
class OriginalReply:
    """A harmless prompt and the first tokens of the original's reply to it."""

    prompt: Tokens
    reply: Tokens


@dataclass(frozen=True)
class OpenThoughts:
    """The harmful prompts that end in an open thought, each with the tag that closes it, and the tokens that it may take."""

    tags: Mapping[Tokens, str] = field(default_factory=dict)
    room: int = 0

    def unfinished(self, prompt: Tokens, reply: str) -> bool:
        """Return whether a reply is nothing but a thought that has not ended."""
        return prompt in self.tags and self.tags[prompt] not in reply


@dataclass
class Transcript:
    """The replies to each harmful prompt so far, refused and answered; where thoughts are open, the place that decides may lie as
    far behind as `thought_room` says: most thoughts begin with what was asked."""

    prompts: Sequence[Tokens]
    refused: dict[int, list[Tokens]] = field(default_factory=dict)
    answered: dict[int, list[Tokens]] = field(default_factory=dict)
    thought_room: int = 0

    def add(self, prompt: int, reply: Sequence[int], refused: bool) -> None:
        """Remember a reply to the prompt at that place in the list; an empty one says nothing."""
        known = (self.refused if refused else self.answered).setdefault(prompt, [])
        if reply and tuple(reply) not in known:
            known.append(tuple(reply))

    @property
    def at_risk(self) -> list[int]:
        """Return the prompts that were refused at least once."""
        return sorted(prompt for prompt, replies in self.refused.items() if replies)

    def places(self) -> list[DivergencePoint]:
        """Return every place where a refusal parts from the answers to the same prompt."""
        found: dict[Tokens, set[int]] = {}
        for prompt in self.at_risk:
            for reply in self.refused[prompt]:
                before = divergence_point(reply, self.answered.get(prompt, []), MOST_SHARED + self.thought_room)
                found.setdefault(tuple(self.prompts[prompt]) + reply[:before], set()).add(reply[before])
        return [DivergencePoint(tokens, tuple(sorted(declining))) for tokens, declining in found.items()]


def divergence_point(reply: Tokens, others: Sequence[Tokens], most: int = MOST_SHARED) -> int:
    """Return how many first tokens `reply` shares with the other that shares most, `most` at most, so that one of its own is left."""
    shared = 0
    for other in others:
        same = next((n for n, (one, two) in enumerate(zip(reply, other, strict=False)) if one != two), None)
        shared = max(shared, min(len(reply), len(other)) if same is None else same)
    return min(shared, len(reply) - 1, most)


def hard_examples(losses: Sequence[float], count: int) -> list[int]:
    """Return the half of `count` with the largest losses, and as many others at equal distances among the rest.

    A few borderline prompts carry most of the KL of an edit; the others see to it that nothing else moves.
    """
    order = sorted(range(len(losses)), key=lambda place: (-losses[place], place))
    hard, rest = order[: count // 2], order[count // 2 :]
    wanted = min(count - len(hard), len(rest))
    return hard + [rest[number * len(rest) // wanted] for number in range(wanted)]
