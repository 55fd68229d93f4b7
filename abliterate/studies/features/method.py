"""Words of a direction by mutual information: no model, no text. arXiv 2502.15576.

`u_cw = norm(W_c)·e_w`, `p(w|c) = softmax_w(u)`, `p(c|w) = softmax_c(u)`,
`I(C;V') = sum_cw p(c) p(w|c) log [p(c|w) / p(c)]` with `p(c) = 1/C`. The words of `c` are those of the largest terms

`m_cw = p(w|c) (log p(c|w) + log C)`.

The authors leave `p(c)` out, since `H(C)` is constant. For the sum it is; for the choice of single words it is not: without
`log C` each term is negative, so that the largest are those of the least `p(w|c)` (the rule `published`).
Only the vectors that are given compete for a word: every figure is of a set of `C`. One vector alone has `m = 0` throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from abliterate.errors import InputError

PRIOR, PUBLISHED, NEAREST = "prior", "published", "nearest"
RULES = (PRIOR, PUBLISHED, NEAREST)
"""The prior kept, the authors' rule, and plain `u`."""

AT_ONCE = 1024
"""Rows whose table of words is in memory at once."""

LEXICAL, SHORT, DOMINANT = 250, 4, 0.1
"""The most frequent words and those of fewer letters are lexical; a word in the lists of a greater share is dominant."""


def similarity(
    rows: Float[Tensor, "rows d_model"], words: Float[Tensor, "words d_model"]
) -> Float[Tensor, "rows words"]:
    """Return `u`: the inner products of rows, behind the model's final norm, and words."""
    return rows.float() @ words.float().T


@dataclass(frozen=True)
class Competition:
    """Rows that compete for words: `behind` are the rows behind the final norm, `temperature` divides `u` in `p(c|w)`."""

    behind: Float[Tensor, "rows d_model"]
    words: Float[Tensor, "words width"]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"--temperature {self.temperature}: give a number above 0")
        if self.behind.shape[-1] != self.words.shape[-1]:
            raise InputError(f"rows are {self.behind.shape[-1]} wide and words {self.words.shape[-1]}")

    def __len__(self) -> int:
        return len(self.behind)

    def totals(self) -> Float[Tensor, " words"]:
        """Return `log sum_c exp(u_cw / temperature)` for each word."""
        found = torch.full((len(self.words),), -torch.inf)
        for rows in torch.split(self.behind, AT_ONCE):
            found = torch.logaddexp(found, (similarity(rows, self.words) / self.temperature).logsumexp(0))
        return found

    def ranked(self) -> Iterator[dict[str, Float[Tensor, "part words"]]]:
        """Yield what each rule ranks words by, some rows at a time: `u` once for all rules."""
        totals = self.totals()
        for rows in torch.split(self.behind, AT_ONCE):
            u = similarity(rows, self.words)
            of_row, of_words = u / self.temperature - totals, u.softmax(-1)
            yield {PRIOR: of_words * (of_row + math.log(len(self))), PUBLISHED: of_words * of_row, NEAREST: u}

    def terms(self, rule: str = PRIOR) -> Iterator[Float[Tensor, "part words"]]:
        """Yield what a rule ranks words by, some rows at a time. Raises InputError for an unknown rule."""
        if rule not in RULES:
            raise InputError(f"--rule {rule}: unknown; choose among {', '.join(RULES)}")
        for part in self.ranked():
            yield part[rule]

    def best(self, count: int, rule: str = PRIOR) -> Int[Tensor, "rows count"]:
        """Return the places of the words that a rule ranks first, row by row."""
        kept = min(count, len(self.words))
        return torch.cat([part.topk(kept, dim=-1).indices for part in self.terms(rule)])

    def information(self) -> float:
        """Return the mutual information `I(C;V')` in nats: that of the rows and the words, at most `log C`."""
        return math.fsum(float(part.double().sum()) for part in self.terms()) / len(self)

    def explained(self, count: int) -> tuple[dict[str, Int[Tensor, "rows count"]], float]:
        """Return what `best` finds by every rule, and `information`, in one pass over the rows."""
        kept = min(count, len(self.words))
        found: dict[str, list[Tensor]] = {rule: [] for rule in RULES}
        information = []
        for part in self.ranked():
            for rule, terms in part.items():
                found[rule].append(terms.topk(kept, dim=-1).indices)
            information.append(float(part[PRIOR].double().sum()))
        return {rule: torch.cat(parts) for rule, parts in found.items()}, math.fsum(information) / len(self)

    def scores(self, places: Sequence[int]) -> Float[Tensor, "rows chosen"]:
        """Return `m_cw` of some words alone."""
        return torch.cat([part[:, list(places)] for part in self.terms()])


@dataclass(frozen=True)
class Spread:
    """How the lists of all rows use the vocabulary (as the authors' code measures it)."""

    diversity: float
    lexical: float
    dominant: float

    def to_json(self) -> dict[str, float]:
        """Return the three shares."""
        return dict(vars(self))


def spread_of(best: Int[Tensor, "rows count"], words: Sequence[str]) -> Spread:
    """Return the share of the vocabulary that any list holds, of lexical words in the lists, and of words in many lists."""
    lists = torch.zeros(len(words)).index_add_(0, best.reshape(-1), torch.ones(best.numel()))
    lexical = torch.tensor([place < LEXICAL or len(word) < SHORT for place, word in enumerate(words)])
    used = lists > 0
    return Spread(
        float(used.float().mean()),
        float(lists[lexical].sum() / lists.sum()),
        float((lists > DOMINANT * len(best)).sum() / max(1, int(used.sum()))),
    )
