"""Which features stand for a concept: by words, by data, or by their numbers; the first two side by side, with their overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.errors import InputError
from abliterate.evaluation.statistics import json_number
from abliterate.studies.features.tested import random_words

CONCEPTS: Mapping[str, tuple[str, ...]] = {
    "safety": (
        "protection", "safety", "security", "law", "legal", "illegal", "privacy", "consent", "ethical", "warning", "harm",
        "danger", "report", "police", "financial", "support", "professional", "emergency", "permission", "rights", "cannot",
    ),
}  # fmt: skip
"""Words of concepts by name: defence strategies (physical, cyber, legal, financial, privacy, ethical, support)."""

LEAST = 3
"""Words of a shipped concept that the vocabulary must hold."""

CHOSEN = 6
"""Features that are steered, where they are not named (the number of the paper's authors' examples)."""

DRAWS = 1000


@dataclass(frozen=True)
class ByWords:
    """The score of each row, `sum of m_cw` over the concept's words, and its p-value against lists of equal frequency.

    With a thousand lists no p-value that is then multiplied by thousands of rows can be small: `p` is already that of the
    greatest standardised score of all rows of a list (Westfall and Young 1993), so that it holds for all rows together.
    """

    words: tuple[str, ...]
    scores: Float[Tensor, " rows"]
    p: Float[Tensor, " rows"]


@dataclass(frozen=True)
class Choice:
    """The rows chosen for a concept, and what both ways would have chosen."""

    chosen: tuple[int, ...]
    how: str
    words: tuple[int, ...]
    data: tuple[int, ...]
    by_words: ByWords | None
    aurocs: Float[Tensor, " rows"]

    @property
    def overlap(self) -> int:
        """Return how many rows both ways choose."""
        return len(set(self.words) & set(self.data))

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Return both choices by the rows' names."""
        rows = [
            {
                "row": names[one], "by_words": one in self.words, "by_data": one in self.data,
                "auroc": json_number(float(self.aurocs[one])),
                "score": None if self.by_words is None else float(self.by_words.scores[one]),
                "p": None if self.by_words is None else float(self.by_words.p[one]),
            }
            for one in dict.fromkeys((*self.chosen, *self.words, *self.data))
        ]  # fmt: skip
        concept = list(self.by_words.words) if self.by_words else []
        return {
            "how": self.how,
            "chosen": [names[one] for one in self.chosen],
            "overlap": self.overlap,
            "words": concept,
            "rows": rows,
        }


def score_words(
    terms: Float[Tensor, "rows words"], places: Sequence[int], words: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> ByWords:
    """Score rows by the terms `m_cw` of a concept's words, against random lists of words of equal frequency."""
    rng = numpy.random.default_rng([seed, 8])
    own = torch.tensor([list(places)])
    scores = terms[:, list(places)].sum(1)
    null = torch.stack([terms[:, random_words(own, terms.shape[1], rng)[0]].sum(1) for _ in range(draws)])
    mean, spread = null.mean(0), null.std(0).clamp(min=1e-30)
    greatest = ((null - mean) / spread).max(1).values
    above = (greatest[:, None] >= ((scores - mean) / spread)[None]).sum(0)
    return ByWords(tuple(words), scores, (1 + above).float() / (1 + draws))


def best(values: Float[Tensor, " rows"], count: int) -> tuple[int, ...]:
    """Return the places of the greatest values that are numbers."""
    known = torch.where(torch.isnan(values), -torch.inf, values)
    order = known.argsort(descending=True, stable=True)[:count].tolist()
    return tuple(one for one in order if float(known[one]) > -torch.inf)


def read_ids(text: str, rows: int) -> tuple[int, ...]:
    """Read `ids:3,17`. Raises InputError for what is no row."""
    try:
        found = tuple(dict.fromkeys(int(word) for word in text.removeprefix("ids:").split(",") if word.strip()))
    except ValueError:
        found = ()
    if not found or not all(0 <= one < rows for one in found):
        raise InputError(f"--concept {text}: give numbers of features from 0 to {rows - 1} by commas, as ids:3,17")
    return found
