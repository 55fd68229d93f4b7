"""A third labeller, a judge of replies: each segment is put to it as a reply of its own to what was asked.

What it calls refused is safety, what complied is content; hedged and incoherent segments are neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abliterate.evaluation.judges.judge import Judge
from abliterate.progress import SILENT, Progress
from abliterate.replies.concepts import CONTENT, NEUTRAL, SAFETY, Concept
from abliterate.replies.labels import Label
from abliterate.studies.phases.agreement import Agreement, agreement_of
from abliterate.studies.phases.examples import ByExamples
from abliterate.studies.phases.labels import LabelledReply
from abliterate.studies.phases.told import Told

CONCEPTS: Mapping[Label, Concept] = {
    "refused": SAFETY,
    "complied": CONTENT,
    "hedged": NEUTRAL,
    "incoherent": NEUTRAL,
}
"""What each label of a judge says of a segment."""


@dataclass(frozen=True)
class ByJudge:
    """A judge's labels of the segments of the report part beside those by rules, and by examples where there are any."""

    name: str
    rules: Agreement
    examples: Agreement | None

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        examples = None if self.examples is None else self.examples.to_json()
        return {"name": self.name, "rules": self.rules.to_json(), "examples": examples}


def by_judge(
    judge: Judge,
    harmful: Sequence[Told],
    examples: ByExamples | None = None,
    *,
    progress: Progress = SILENT,
    seed: int = 0,
) -> ByJudge | None:
    """Return how a judge labels the segments of greedy replies, as `by_examples` does; None where there are none.

    Raises what the judge raises.
    """
    said = [
        (phrase.on(told.unit.side), reply)
        for told in harmful
        for phrase, _, reply in told.cases("report")
        if not reply.cut.incoherent
    ]
    pairs = [(prompt, piece.text) for prompt, reply in said for piece in reply.cut.pieces]
    if not pairs:
        return None
    given = iter(judge.judge(pairs, progress))
    labels = [[CONCEPTS[next(given)] for _ in reply.segments] for _, reply in said]
    replies = [reply for _, reply in said]

    def beside(others: Sequence[LabelledReply]) -> Agreement:
        both = zip(others, labels, strict=True)
        rows = [[(one.concept, label) for one, label in zip(reply.segments, own, strict=True)] for reply, own in both]
        return agreement_of(rows, seed=seed)

    return ByJudge(judge.name, beside(replies), None if examples is None else beside(examples.replies))
