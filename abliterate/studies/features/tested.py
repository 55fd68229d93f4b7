"""Are the words right? Without a judge: do they tell in which held-out texts a feature fires?

The share of pairs of texts in which the one where the feature fires holds more of its words (AUROC), mean over features. Beside
it the same with random words of equal frequency, with the tokens at which the feature is strongest, with the nearest words, and with
the words of another feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from abliterate.evaluation.statistics import Mean
from abliterate.studies.features.activity import counted_aurocs

ENOUGH = 3
"""Held-out texts in which a feature must fire, and in which it must not, to be judged."""

DRAWS = 5
"""Lists of random words beside each list."""

LISTS = 512
"""Lists of words that are counted at once."""

NEAR = 25
"""Ranks of frequency from among which a random word is drawn."""


@dataclass(frozen=True)
class WordTest:
    """The AUROC of each kind of list over the features that can be judged, `judged` of `features`, on `texts` held-out texts."""

    scores: dict[str, Mean]
    above_random: Mean
    judged: int
    features: int
    texts: int
    by_feature: Float[Tensor, " features"]

    @property
    def apart(self) -> bool:
        """Return whether the words' interval is above that of random words."""
        return self.judged > 0 and self.scores["words"].interval[0] > self.scores["random words"].interval[1]

    def to_json(self) -> dict[str, Any]:
        """Return the means with their intervals."""
        return {
            "scores": {name: one.to_json() for name, one in self.scores.items()}, "above_random": self.above_random.to_json(),
            "judged": self.judged, "features": self.features, "texts": self.texts,
        }  # fmt: skip


def counted(
    held: Float[Tensor, "texts words"], lists: Int[Tensor, "features count"]
) -> Float[Tensor, "texts features"]:
    """Return how many words of each list each text holds."""
    return torch.cat([held[:, own].sum(-1) for own in torch.split(lists, LISTS)], dim=1)


def token_counts(texts: Sequence[Sequence[int]], lists: Sequence[Sequence[int]]) -> Float[Tensor, "texts features"]:
    """Return how many tokens of each list each text holds."""
    known = {token: place for place, token in enumerate(sorted({token for own in lists for token in own}))}
    held = torch.zeros(len(texts), len(known) + 1)
    for row, tokens in enumerate(texts):
        held[row, [known[token] for token in set(tokens) if token in known]] = 1
    return torch.stack([held[:, [known[token] for token in own]].sum(-1) for own in lists], dim=1)


def random_words(
    lists: Int[Tensor, "features count"], words: int, rng: numpy.random.Generator
) -> Int[Tensor, "features count"]:
    """Return for each word of each list another of about its frequency: the vocabulary is sorted by that."""
    near = min(NEAR, words - 1)
    shift = rng.integers(1, near + 1, lists.shape) * rng.choice((-1, 1), lists.shape)
    found = torch.from_numpy(shift) + lists
    found = torch.where(found < 0, lists + torch.from_numpy(abs(shift)), found)
    found = torch.where(found >= words, lists - torch.from_numpy(abs(shift)), found)
    return found.clamp(0, words - 1)


def word_test(
    fires: Bool[Tensor, "texts features"],
    held: Float[Tensor, "texts words"],
    words: Int[Tensor, "features count"],
    nearest: Int[Tensor, "features count"],
    tokens: Float[Tensor, "texts features"],
    seed: int = 0,
) -> WordTest:
    """Return how well each feature's words predict where it fires, beside its controls; `tokens` are counts of its top tokens."""
    rng = numpy.random.default_rng([seed, 7])
    often = fires.sum(0)
    judged = (often >= ENOUGH) & (len(fires) - often >= ENOUGH)
    places = judged.nonzero()[:, 0]
    kinds: dict[str, Tensor] = {
        "words": counted(held, words[places]),
        "nearest words": counted(held, nearest[places]),
        "top tokens": tokens[:, places],
        "words of another feature": counted(held, words[places[torch.from_numpy(derangement(len(places), rng))]]),
    } if len(places) else {}  # fmt: skip
    found = {name: counted_aurocs(counts, fires[:, places]) for name, counts in kinds.items()}
    if len(places):
        drawn = [
            counted_aurocs(counted(held, random_words(words[places], held.shape[1], rng)), fires[:, places])
            for _ in range(DRAWS)
        ]
        found["random words"] = torch.stack(drawn).mean(0)
    names = ("words", "random words", "top tokens", "nearest words", "words of another feature")
    scores = {name: Mean(tuple(found[name].tolist()) if name in found else ()) for name in names}
    above = Mean(tuple((found["words"] - found["random words"]).tolist()) if found else ())
    own = torch.full((fires.shape[1],), torch.nan)
    if found:
        own[places] = found["words"]
    return WordTest(scores, above, len(places), fires.shape[1], len(fires), own)


def derangement(count: int, rng: numpy.random.Generator) -> numpy.ndarray[Any, numpy.dtype[numpy.int64]]:
    """Return for each place another one: a random circle through all of them."""
    order = rng.permutation(count)
    found = numpy.empty(count, dtype=numpy.int64)
    found[order] = numpy.roll(order, -1)
    return found
