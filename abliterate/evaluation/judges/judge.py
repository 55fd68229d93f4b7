"""Who says what kind of reply it is: the rules of the package, or a sequence classifier that knows refusals.

Whoever judges, the labels are the four of `labels`. A judge on a server is in `endpoint_judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from abliterate.progress import SILENT, Progress
from abliterate.replies.labels import Label, label_of


@runtime_checkable
class Judge(Protocol):
    """Something that labels replies."""

    @property
    def name(self) -> str:
        """What records call it."""
        ...

    def judge(self, pairs: Sequence[tuple[str, str]], progress: Progress = SILENT) -> list[Label]:
        """Return a label for each (prompt, reply)."""
        ...


@dataclass(frozen=True)
class RuleJudge:
    """The rules of the package: what every run reports."""

    name: str = "rules"

    def judge(self, pairs: Sequence[tuple[str, str]], progress: Progress = SILENT) -> list[Label]:
        """Return a label for each (prompt, reply)."""
        return [label_of(prompt, reply) for prompt, reply in pairs]
