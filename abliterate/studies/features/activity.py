"""Where rows are active: in which tokens and texts of a corpus, and how well that parts refused prompts from answered ones.

Kept as the few entries that are not 0: of thousands of features each token has k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.features.corpus import Corpus
from abliterate.studies.features.rows import Rows
from abliterate.studies.features.tokens import TokenStates, capture_layers

FIRES = 0.99
"""A direction without an encoder fires at the tokens above this quantile of its component in the train part."""

ENCODED = 512
"""States encoded at once."""

COLUMNS = 256
"""Rows whose AUROC is computed at once."""


@dataclass(frozen=True)
class Entries:
    """What is active: for each entry its token (by order), its row, and how strongly."""

    token: Int[Tensor, " entries"]
    row: Int[Tensor, " entries"]
    value: Float[Tensor, " entries"]

    @classmethod
    def joined(cls, parts: Sequence[Entries]) -> Entries:
        """Return the entries of all parts."""
        return cls(*(torch.cat([getattr(one, name) for one in parts]) for name in ("token", "row", "value")))


@dataclass(frozen=True)
class Activity:
    """Entries of a corpus; `text` and `token_id` are of each token, `ends` the values at the ends of user's words and prompt."""

    entries: Entries
    text: Int[Tensor, " tokens"]
    token_id: Int[Tensor, " tokens"]
    texts: int
    rows: int
    ends: dict[str, Float[Tensor, "texts rows"]]

    @cached_property
    def strongest(self) -> Float[Tensor, "texts rows"]:
        """Return the greatest value of each row in each text, 0 where it does not fire."""
        found = torch.zeros(self.texts * self.rows)
        found.scatter_reduce_(
            0, self.text[self.entries.token] * self.rows + self.entries.row, self.entries.value, "amax"
        )
        return found.view(self.texts, self.rows)

    @cached_property
    def rates(self) -> Float[Tensor, " rows"]:
        """Return the share of tokens at which each row fires."""
        return torch.bincount(self.entries.row, minlength=self.rows).float() / len(self.text)

    def top_tokens(self, count: int, texts: Bool[Tensor, " texts"]) -> list[list[int]]:
        """Return for each row the ids of the tokens of its greatest values in some texts, each id once."""
        own = texts[self.text[self.entries.token]]
        row, value = self.entries.row[own].numpy(), self.entries.value[own].numpy()
        ids = self.token_id[self.entries.token[own]].numpy()
        order = numpy.lexsort((ids, -value, row))
        found: list[list[int]] = [[] for _ in range(self.rows)]
        for one, token in zip(row[order].tolist(), ids[order].tolist(), strict=True):
            if len(found[one]) < count and token not in found[one]:
                found[one].append(token)
        return found


def activity_of(live: LiveModel, corpus: Corpus, rows: Rows) -> Activity:
    """Return where rows are active in a corpus, each at its own layer. Raises InputError for a row that is of no layer."""
    layers = [layer for layer in rows.layers if layer is not None]
    if len(layers) < len(rows):
        name = rows.names[rows.layers.index(None)]
        raise InputError(f"{rows.source}: {name} is of no layer; say with --layer where it is to be looked for")
    spans = [one.span for one in corpus.passages]
    train = torch.tensor([one.part == "train" for one in corpus.passages])
    found = capture_layers(live, spans, sorted(set(layers)))
    ends = capture_layers(live, [one.ends for one in corpus.passages], sorted(set(layers)))
    parts, values = (
        [],
        {"instruction_end": torch.zeros(len(spans), len(rows)), "prompt_end": torch.zeros(len(spans), len(rows))},
    )
    for layer, states in found.items():
        own = [place for place, one in enumerate(layers) if one == layer]
        entries, at_ends = active_at(rows, own, states, ends[layer], train)
        parts.append(entries)
        for name, at_end in zip(values, at_ends, strict=True):
            values[name][:, own] = at_end
    states = next(iter(found.values()))
    ids = torch.tensor(
        [spans[text].tokens[place] for text, place in zip(states.text.tolist(), states.place.tolist(), strict=True)]
    )
    return Activity(Entries.joined(parts), states.text, ids, len(spans), len(rows), values)


def active_at(
    rows: Rows, own: Sequence[int], states: TokenStates, ends: TokenStates, train: Bool[Tensor, " texts"]
) -> tuple[Entries, list[Tensor]]:
    """Return the entries of the rows of one layer, and their values at the first and the last of the two ends of each text."""
    first = torch.cat([torch.tensor([0]), 1 + (ends.text[1:] != ends.text[:-1]).nonzero()[:, 0]])
    last = torch.cat([first[1:] - 1, torch.tensor([len(ends.text) - 1])])
    places = torch.tensor(own)
    if rows.sae is not None:
        numbers = torch.tensor([int(rows.names[one]) for one in own])
        parts = []
        for start in range(0, len(states.states), ENCODED):
            codes = rows.sae.encode(states.states[start : start + ENCODED].float())[:, numbers]
            token, row = codes.nonzero(as_tuple=True)
            parts.append(Entries(token + start, places[row], codes[token, row]))
        return Entries.joined(parts), [rows.sae.encode(ends.states[at].float())[:, numbers] for at in (first, last)]
    inside = states.states[train[states.text]].float()
    mean = inside.mean(0)
    vectors = rows.vectors[places]
    limits = ((inside - mean) @ vectors.T).quantile(FIRES, dim=0)
    along = (states.states.float() - mean) @ vectors.T
    token, row = ((along > limits) & (along > 0)).nonzero(as_tuple=True)
    return Entries(token, places[row], along[token, row]), [
        (ends.states[at].float() - mean) @ vectors.T for at in (first, last)
    ]


def aurocs(values: Float[Tensor, "cases columns"], first: Bool[Tensor, " cases"]) -> Float[Tensor, " columns"]:
    """Return for each column the share of pairs in which the case of the first side is higher, ties half; NaN where a side is empty."""
    one, other = values[first], values[~first]
    if not len(one) or not len(other):
        return torch.full((values.shape[1],), torch.nan)
    parts = []
    for start in range(0, values.shape[1], COLUMNS):
        above, below = one[:, None, start : start + COLUMNS], other[None, :, start : start + COLUMNS]
        parts.append(((above > below).float().mean((0, 1)) + (above >= below).float().mean((0, 1))) / 2)
    return torch.cat(parts)


def counted_aurocs(
    counts: Float[Tensor, "cases columns"], first: Bool[Tensor, "cases columns"]
) -> Float[Tensor, " columns"]:
    """Do `aurocs` for counts of a few values, each column with sides of its own, in one pass over the values.

    The pairs won at a value are the first side's cases there times the other side's below; ties half. NaN where a side is empty.
    """
    sides = torch.stack([first, ~first])
    won = torch.zeros(counts.shape[1], dtype=torch.float64)
    below = torch.zeros(counts.shape[1], dtype=torch.float64)
    for value in sorted(set(counts.flatten().tolist())):
        here, there = (sides & (counts == value)).double().sum(1)
        won += here * (below + there / 2)
        below += there
    many, others = sides.double().sum(1)
    found: Tensor = won / (many * others)
    return found.float()
