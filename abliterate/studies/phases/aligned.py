"""The component along a safety vector, token by token, around the tokens at which replies turn: does it rise before the text?

Beside transitions stand random sentence ends of replies at which nothing turns. The component is of the token's stream at the
vector's layer, along the unit vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.evaluation.statistics import json_number, mean_of
from abliterate.models.live_model import LiveModel
from abliterate.projection import normalize
from abliterate.prompts.texts import Text
from abliterate.replies.concepts import SAFETY
from abliterate.studies.common import Numbers
from abliterate.studies.phases.labels import LabelledReply
from abliterate.studies.phases.streams import of_streams
from abliterate.studies.separation import auroc

REACH = 16
"""Tokens before and after a turn that are looked at."""

SOON = 8
"""A token is before a turn where the reply turns within so many."""

ENOUGH = 5
"""Turns that a curve needs."""


def components(
    live: LiveModel,
    pairs: Sequence[tuple[Text, LabelledReply]],
    vectors: Float[Tensor, "vectors d_model"],
    layer: int,
) -> list[Numbers]:
    """Return, for each reply, the component of each of its tokens along each vector at a layer, `[vectors, tokens]`.

    Every reply is read once for all vectors.
    """
    units = torch.stack([normalize(vector.double()) for vector in vectors])

    def along(_: LabelledReply, stream: Tensor) -> Numbers:
        found: Numbers = (units @ stream.T).numpy()
        return found

    return of_streams(live, pairs, layer, along, "components along the vectors")


def turn_of(reply: LabelledReply) -> int | None:
    """Return the token at which a reply turns from content to safety for good, none where it does not."""
    return next((one.token for one in reply.transitions if one.settled and one.target == SAFETY), None)


@dataclass(frozen=True)
class Aligned:
    """The mean component at each token from -16 to +16 around turns and around other sentence ends, and what it foretells.

    `auroc` is of "turns within 8 tokens", over tokens of content; `lead` how many tokens before the turn it is already higher.
    """

    turns: int
    ends: int
    curve: tuple[tuple[int, float | None, float | None, float | None, float | None], ...]
    """Offset, mean around turns with its interval, mean around other sentence ends."""
    auroc: float | None
    lead: int

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "turns": self.turns, "ends": self.ends, "auroc": self.auroc, "lead": self.lead,
            "curve": [list(row) for row in self.curve],
        }  # fmt: skip


def aligned(replies: Sequence[LabelledReply], values: Sequence[Numbers], seed: int = 0) -> Aligned | None:
    """Return the component around turns; None where too few replies turn."""
    turning = [(turn, own) for reply, own in zip(replies, values, strict=True) if (turn := turn_of(reply)) is not None]
    if len(turning) < ENOUGH:
        return None
    rng = numpy.random.default_rng([seed, 10])
    calm = []
    for reply, own in zip(replies, values, strict=True):
        ends = [end for end in reply.cut.ends if end < reply.cut.circle]
        if turn_of(reply) is None and not reply.onset.entered and ends and not reply.cut.incoherent:
            calm.append((ends[int(rng.integers(len(ends)))], own))
    curve = [point(offset, turning, calm) for offset in range(-REACH, REACH + 1)]
    lead = 0
    for offset, _, low, _, beside in reversed(curve[:REACH]):
        if low is None or beside is None or low <= beside:
            break
        lead = -offset
    return Aligned(len(turning), len(calm), tuple(curve), soon_auroc(replies, values), lead)


def around(offset: int, places: Sequence[tuple[int, Numbers]]) -> list[float]:
    """Return the component so many tokens from each place, where the reply has such a token."""
    return [float(own[place + offset]) for place, own in places if 0 <= place + offset < len(own)]


def point(
    offset: int, turning: Sequence[tuple[int, Numbers]], calm: Sequence[tuple[int, Numbers]]
) -> tuple[int, float | None, float | None, float | None, float | None]:
    """Return one point of the curve."""
    own, other = around(offset, turning), around(offset, calm)
    if len(own) < ENOUGH:
        return offset, None, None, None, json_number(mean_of(other).value) if other else None
    mean = mean_of(own)
    return offset, mean.value, *mean.interval, json_number(mean_of(other).value) if other else None


def soon_auroc(replies: Sequence[LabelledReply], values: Sequence[Numbers]) -> float | None:
    """Return how well the component tells content tokens of which the reply turns within 8 from the others; None without either."""
    soon: list[float] = []
    later: list[float] = []
    for reply, own in zip(replies, values, strict=True):
        turn = turn_of(reply)
        for phase in reply.phases:
            for token in range(phase.begin, min(phase.end, len(own))):
                if phase.concept != SAFETY and (turn is None or token < turn):
                    (soon if turn is not None and turn - token <= SOON else later).append(float(own[token]))
    return auroc(soon, later) if soon and later else None


def pairs_of(texts: Sequence[Text], replies: Sequence[LabelledReply]) -> list[tuple[Text, LabelledReply]]:
    """Return the texts with the replies that say something."""
    return [(text, reply) for text, reply in zip(texts, replies, strict=True) if not reply.cut.incoherent]
