"""A second labeller, by examples: a segment is what it is nearer to, the model's own refusals or its own answers.

No passages are shipped: those of safety are the first segments of the model's train refusals, those of content the segments of
its answers to harmless train phrases. A segment's embedding is the mean of `resid` at .6 of the depth over its tokens, minus the
grand mean of the passages. `S = R - H`, each the mean of the three nearest cosines; the threshold is chosen on the select part
for the greatest agreement with the rules, and a segment within .05 of it is neutral.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.replies.concepts import CONTENT, NEUTRAL, SAFETY
from abliterate.studies.phases.agreement import Agreement, agreement_of, kappa_of
from abliterate.studies.phases.labels import LabelledReply, relabelled
from abliterate.studies.phases.streams import of_streams
from abliterate.studies.phases.told import Told
from abliterate.studies.replies import TRAIN

NEAREST = 3
NEAR = 0.05
"""This near to the threshold a segment is neither."""

THRESHOLDS = tuple(step / 20 for step in range(-10, 11))

Embeddings = Float[Tensor, "_ d_model"]


@dataclass(frozen=True)
class Embedded:
    """A reply, and where its segments lie."""

    reply: LabelledReply
    split: str
    rows: Embeddings


@dataclass(frozen=True)
class Passages:
    """Embeddings of safety and of content, and their grand mean."""

    safety: Embeddings
    content: Embeddings

    @cached_property
    def mean(self) -> Float[Tensor, " d_model"]:
        """Return the grand mean, both concepts weighing alike."""
        return (self.safety.mean(0) + self.content.mean(0)) / 2

    def scores(self, rows: Embeddings) -> Float[Tensor, " segments"]:
        """Return `S`: how much nearer each segment is to safety than to content, by the nearest three of each."""
        if not len(rows):
            return torch.zeros(0, dtype=torch.float64)
        own = torch.nn.functional.normalize(rows.double() - self.mean, dim=-1)
        near = []
        for passages in (self.safety, self.content):
            others = torch.nn.functional.normalize(passages - self.mean, dim=-1)
            near.append((own @ others.T).topk(min(NEAREST, len(others)), dim=-1).values.mean(-1))
        return near[0] - near[1]


def concept_by(score: float, threshold: float) -> str:
    """Return what a segment of this score is about."""
    if abs(score - threshold) < NEAR:
        return NEUTRAL
    return SAFETY if score > threshold else CONTENT


@dataclass(frozen=True)
class ByExamples:
    """The labeller by examples: its threshold, its agreement with the rules on the report part, and its labels there."""

    threshold: float
    agreement: Agreement
    passages: tuple[int, int]
    replies: tuple[LabelledReply, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all but the replies."""
        safety, content = self.passages
        return {
            "threshold": self.threshold,
            "safety": safety,
            "content": content,
            "agreement": self.agreement.to_json(),
        }


def embedded(live: LiveModel, cases: Sequence[tuple[Text, LabelledReply, str]], layer: int) -> list[Embedded]:
    """Return replies with the mean stream of each of their segments at a layer."""
    none = torch.zeros(0, live.architecture.d_model, dtype=torch.float64)

    def means(reply: LabelledReply, stream: Tensor) -> Tensor:
        parts = [stream[one.begin : one.end].mean(0) for one in reply.segments]
        return torch.stack(parts) if parts else none

    rows = of_streams(live, [(text, reply) for text, reply, _ in cases], layer, means, "embedding segments")
    return [Embedded(reply, split, own) for (_, reply, split), own in zip(cases, rows, strict=True)]


def cases_of(told: Told) -> list[tuple[Text, LabelledReply, str]]:
    """Return the greedy replies that say something, with the part of the split that each is of."""
    return [(text, reply, phrase.split) for phrase, text, reply in told.cases() if not reply.cut.incoherent]


def by_examples(
    live: LiveModel, harmful: Sequence[Told], harmless: Sequence[Told], layer: int, seed: int = 0
) -> ByExamples | None:
    """Return the labeller by examples; None where there are fewer than three passages of a concept, or nothing to label."""
    own = embedded(live, [case for told in harmful for case in cases_of(told)], layer)
    other = embedded(live, [case for told in harmless for case in cases_of(told) if case[2] == TRAIN], layer)
    safety = [one.rows[0] for one in own if one.split == TRAIN and one.reply.refuses and len(one.rows)]
    content = [row for one in other if not one.reply.refuses for row in one.rows]
    parts: Mapping[str, list[Embedded]] = {
        name: [one for one in own if one.split == name] for name in ("select", "report")
    }
    if min(len(safety), len(content)) < NEAREST or not all(parts.values()):
        return None
    passages = Passages(torch.stack(safety), torch.stack(content))
    scores = {name: [passages.scores(one.rows).tolist() for one in part] for name, part in parts.items()}
    threshold = max(THRESHOLDS, key=lambda one: (agreed(parts["select"], scores["select"], one), -abs(one)))
    labels = [[concept_by(score, threshold) for score in one] for one in scores["report"]]
    pairs = [
        [(segment.concept, label) for segment, label in zip(one.reply.segments, named, strict=True)]
        for one, named in zip(parts["report"], labels, strict=True)
    ]
    replies = tuple(
        relabelled(one.reply.cut, named, [abs(score - threshold) for score in given], one.reply.settle)
        for one, named, given in zip(parts["report"], labels, scores["report"], strict=True)
    )
    return ByExamples(threshold, agreement_of(pairs, seed=seed), (len(safety), len(content)), replies)


def agreed(part: Sequence[Embedded], scores: Sequence[Sequence[float]], threshold: float) -> float:
    """Return the agreement with the rules at a threshold; less than any where it cannot be told."""
    pairs = [
        (segment.concept, concept_by(score, threshold))
        for one, own in zip(part, scores, strict=True)
        for segment, score in zip(one.reply.segments, own, strict=True)
    ]
    kappa = kappa_of(pairs)
    return kappa if kappa == kappa else -1.0
