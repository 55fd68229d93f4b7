"""How alike vectors are, layer by layer, each cosine between its own floor and ceiling, and whether groups of them differ.

What `studies/common.py` does for a pair is done here for all pairs at once: the same draws of prompts and of labels serve
every pair that a vector is in.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy
from numpy.typing import NDArray

from abliterate.studies.common import (
    FLOOR_DRAWS,
    FLOOR_QUANTILE,
    RESAMPLES,
    Contrast,
    Cosine,
    Numbers,
    cosines,
    difference_weights,
    reliability,
    shuffled,
    verdict_of,
)

PERMUTATIONS = 10_000


@dataclass(frozen=True)
class Similarity:
    """Vectors by name, in order, the cosine of each pair, and how reliable each vector is."""

    names: tuple[str, ...]
    pairs: Mapping[tuple[str, str], Cosine]
    reliabilities: Mapping[str, float]

    def between(self, first: str, second: str) -> Cosine:
        """Return the cosine of two vectors."""
        return self.pairs[(first, second)] if (first, second) in self.pairs else self.pairs[(second, first)]

    @property
    def matrix(self) -> NDArray[numpy.float64]:
        """Return the cosines `[vectors, vectors]`."""
        found = numpy.eye(len(self.names))
        for one, other in combinations(range(len(self.names)), 2):
            found[one, other] = found[other, one] = self.between(self.names[one], self.names[other]).value
        return found

    def to_json(self) -> dict[str, object]:
        """Return all of it, pairs as a list, the order in which like vectors stand together, and how they are joined."""
        return {
            "names": list(self.names),
            "order": list(order_of(self.matrix)),
            "joins": [[one.first, one.second, one.height] for one in joins_of(self.matrix)],
            "reliabilities": dict(self.reliabilities),
            "pairs": [{"first": one, "second": other, **pair.to_json()} for (one, other), pair in self.pairs.items()],
        }


def similarity_of(
    contrasts: Mapping[str, Contrast], *, draws: int = FLOOR_DRAWS, resamples: int = RESAMPLES, seed: int = 0
) -> Similarity:
    """Return how alike the vectors of contrasts are; prompts that several have are drawn together.

    Raises InputError where a reliability or a floor cannot be had, as `studies.common.compare`.
    """
    names = tuple(contrasts)
    vectors = {name: one.vector.numpy() for name, one in contrasts.items()}
    trust = {name: reliability(one.rows, one.labels, one.prompts, seed=seed) for name, one in contrasts.items()}
    # Each has draws of its own: with the same ones two shuffles of the same states would be one.
    mixed = {
        name: shuffled(one, draws, numpy.random.default_rng([seed, 4, place]))
        for place, (name, one) in enumerate(contrasts.items())
    }
    drawn = resampled_together(contrasts, resamples, seed)
    pairs = {}
    for first, second in combinations(names, 2):
        value = float(cosines(vectors[first][None], vectors[second][None])[0])
        between = numpy.abs(cosines(mixed[first], mixed[second]))
        least = float(numpy.quantile(between[numpy.isfinite(between)], FLOOR_QUANTILE))
        found = cosines(drawn[first], drawn[second])
        found = found[numpy.isfinite(found)]
        # The bootstrap adds noise of its own, which pulls its cosines down: the interval lies around the cosine itself.
        ends = numpy.percentile(found, (2.5, 97.5)) if len(found) else (math.nan, math.nan)
        low, high = (min(1.0, max(-1.0, value + float(end - found.mean()))) for end in ends)
        both = (trust[first], trust[second])
        verdict = verdict_of(value, low, high, least, both)
        pairs[first, second] = Cosine(value, low, high, least, math.sqrt(math.prod(both)), verdict)
    return Similarity(names, pairs, trust)


def resampled_together(contrasts: Mapping[str, Contrast], resamples: int, seed: int) -> dict[str, Numbers]:
    """Return each vector from resampled prompts `[resamples, d_model]`, the same prompts for all."""
    known = {
        name: place for place, name in enumerate(dict.fromkeys(one for c in contrasts.values() for one in c.prompts))
    }
    rng = numpy.random.default_rng([seed, 5])
    counts = rng.multinomial(len(known), numpy.full(len(known), 1 / len(known)), size=resamples)
    return {
        name: difference_weights(
            numpy.asarray(one.labels), counts[:, [known[prompt] for prompt in one.prompts]].astype(numpy.float64)
        )
        @ one.rows.numpy()
        for name, one in contrasts.items()
    }


@dataclass(frozen=True)
class Join:
    """Two groups of vectors that average linkage joins, at one minus their mean cosine.

    `first` and `second` are places of vectors, or the number of vectors plus the place of an earlier join.
    """

    first: int
    second: int
    height: float
    members: tuple[int, ...]


def joins_of(matrix: NDArray[numpy.float64]) -> tuple[Join, ...]:
    """Return how average linkage joins the vectors, most alike first (Sokal and Michener 1958)."""
    groups: dict[int, tuple[int, ...]] = {place: (place,) for place in range(len(matrix))}
    joins: list[Join] = []
    while len(groups) > 1:
        means = {
            (one, other): float(matrix[numpy.ix_(groups[one], groups[other])].mean())
            for one, other in combinations(groups, 2)
        }
        one, other = max(means, key=lambda pair: means[pair])
        members = groups.pop(one) + groups.pop(other)
        groups[len(matrix) + len(joins)] = members
        joins.append(Join(one, other, 1 - means[one, other], members))
    return tuple(joins)


def order_of(matrix: NDArray[numpy.float64]) -> tuple[int, ...]:
    """Return the places of the vectors as average linkage puts them beside each other."""
    joins = joins_of(matrix)
    return joins[-1].members if joins else tuple(range(len(matrix)))


@dataclass(frozen=True)
class Grouped:
    """The mean cosine of pairs within the same group and between groups, and the p-value of their difference."""

    within: float
    between: float
    p: float

    def to_json(self) -> dict[str, float | None]:
        """Return all of it."""
        return dict(vars(self))


def grouped(
    matrix: NDArray[numpy.float64], groups: Sequence[Hashable], permutations: int = PERMUTATIONS, seed: int = 0
) -> Grouped | None:
    """Return whether vectors of the same group are more alike than others, by permuting who belongs to which group.

    One-sided. None where there are no pairs of one of the two kinds.
    """
    kinds = {name: place for place, name in enumerate(dict.fromkeys(groups))}
    own = numpy.asarray([kinds[name] for name in groups])
    upper = numpy.triu_indices(len(own), 1)
    values = matrix[upper]

    def same(labels: NDArray[numpy.intp]) -> NDArray[numpy.bool_]:
        equal: NDArray[numpy.bool_] = labels[..., upper[0]] == labels[..., upper[1]]
        return equal

    inside = same(own)
    if not inside.any() or inside.all():
        return None
    drawn = numpy.random.default_rng([seed, 7]).permuted(numpy.tile(own, (permutations, 1)), axis=1)
    p = permuted_p(values, inside, same(drawn))
    return Grouped(float(values[inside].mean()), float(values[~inside].mean()), p)


def permuted_p(values: Numbers, inside: NDArray[numpy.bool_], drawn: NDArray[numpy.bool_]) -> float:
    """Return the share of permutations in which pairs inside of a group exceed the others by as much, the real one among them."""

    def gaps(rows: NDArray[numpy.bool_]) -> Numbers:
        weights = rows.astype(numpy.float64)
        found: Numbers = weights @ values / weights.sum(-1) - (1 - weights) @ values / (1 - weights).sum(-1)
        return found

    observed = gaps(inside[None])[0]
    return float((1 + (gaps(drawn) >= observed - 1e-12).sum()) / (1 + len(drawn)))


def class_test(
    states: Numbers,
    classes: Sequence[Hashable],
    strata: Sequence[Hashable],
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Grouped | None:
    """Return whether states before the same kind of sentence are more alike, once centred inside of strata (forms).

    Classes are permuted inside of the strata. None where a kind of pair is missing.
    """
    centred = states.astype(numpy.float64, copy=True)
    members = [numpy.flatnonzero([one == name for one in strata]) for name in dict.fromkeys(strata)]
    for own in members:
        centred[own] -= centred[own].mean(0)
    lengths = numpy.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / numpy.where(lengths > 0, lengths, 1)
    alike = unit @ unit.T
    numpy.fill_diagonal(alike, 0)
    kinds = {name: place for place, name in enumerate(dict.fromkeys(classes))}
    own = numpy.asarray([kinds[name] for name in classes])
    everything, count = float(alike.sum()), len(own) * (len(own) - 1)

    def means(labels: NDArray[numpy.intp]) -> tuple[float, float]:
        inside, pairs = 0.0, 0
        for kind in range(len(kinds)):
            mine = labels == kind
            inside += float(mine @ alike @ mine)
            pairs += int(mine.sum()) * (int(mine.sum()) - 1)
        return (inside / pairs, (everything - inside) / (count - pairs)) if 0 < pairs < count else (math.nan, math.nan)

    within, between = means(own)
    if math.isnan(within):
        return None
    rng = numpy.random.default_rng([seed, 8])
    exceeded = 0
    for _ in range(permutations):
        labels = own.copy()
        for mine in members:
            labels[mine] = rng.permutation(own[mine])
        drawn = means(labels)
        exceeded += drawn[0] - drawn[1] >= within - between - 1e-12
    return Grouped(within, between, (1 + exceeded) / (1 + permutations))


def silhouette(states: Numbers, classes: Sequence[Hashable]) -> float:
    """Return the mean silhouette by cosine distance (Rousseeuw 1987); a state alone in its class counts 0, NaN with one class."""
    kinds = list(dict.fromkeys(classes))
    if len(kinds) < 2:
        return math.nan
    lengths = numpy.linalg.norm(states, axis=1, keepdims=True)
    unit = states / numpy.where(lengths > 0, lengths, 1)
    distance = 1 - unit @ unit.T
    members = {kind: numpy.asarray([one == kind for one in classes]) for kind in kinds}
    found = []
    for place, kind in enumerate(classes):
        own = members[kind].copy()
        own[place] = False
        if not own.any():
            found.append(0.0)
            continue
        inside = float(distance[place, own].mean())
        outside = min(float(distance[place, members[other]].mean()) for other in kinds if other != kind)
        found.append((outside - inside) / max(inside, outside, 1e-12))
    return float(numpy.mean(found))
