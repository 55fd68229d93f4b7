"""What else did an edit change? Rows by how much their activity on the same texts differs between a model and its edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abliterate.evaluation.paired import PairedDifference
from abliterate.evaluation.statistics import mean_of
from abliterate.studies.common import holm
from abliterate.studies.features.activity import Activity

MOST = 20
"""Rows that changed most, of which the difference is tested and told."""


@dataclass(frozen=True)
class Change:
    """One row: the mean over texts of its greatest value before and after, and the difference text by text.

    `p` is corrected for the number of all rows (Holm), of which those that changed most are told.
    """

    place: int
    before: float
    after: float
    difference: PairedDifference
    p: float

    def to_json(self, names: Sequence[str], words: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Return it with the row's name and words."""
        low, high = self.difference.mean.interval
        return {
            "row": names[self.place], "words": list(words[self.place]), "before": self.before, "after": self.after,
            "difference": self.difference.mean.value, "low": low, "high": high, "p": self.p,
        }  # fmt: skip


def changes_of(before: Activity, after: Activity) -> list[Change]:
    """Return the rows that changed most against how much they differ from text to text, the greatest change first."""
    one, other = before.strongest, after.strongest
    spread = one.std(0).clamp(min=1e-6 + float(one.std(0).max()) * 1e-3)
    order = ((other - one).mean(0) / spread).abs().argsort(descending=True, stable=True).tolist()
    tested = [(place, PairedDifference(mean_of((other - one)[:, place].tolist()))) for place in order[:MOST]]
    # Those that are not told have changed less: their p-values are taken as 1.
    adjusted = holm([*(difference.p for _, difference in tested), *[1.0] * (before.rows - len(tested))])
    return [
        Change(place, float(one[:, place].mean()), float(other[:, place].mean()), difference, p)
        for (place, difference), p in zip(tested, adjusted, strict=False)
    ]
