"""What every study says of its vectors: how reliable each is, and how alike two are, between a floor and a ceiling.

States of a transformer are anisotropic, so that two vectors made of shuffled labels are far from orthogonal: a cosine says
nothing without its own floor (shuffled labels) and ceiling (what noise leaves of a cosine of 1). Everything is computed in
float64, on the CPU, and the same seed gives the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from abliterate.errors import InputError
from abliterate.evaluation.statistics import json_number

Numbers = NDArray[numpy.float64]
Label = float | int

HALVES = 20
FLOOR_DRAWS = 200
FLOOR_QUANTILE = 0.95
RESAMPLES = 500
CONTROLS = 5
"""Random vectors beside each vector whose effect is measured; their range is shown."""

SAME = 0.9
"""A cosine, freed of noise, from which two vectors count as the same..."""

RELIABLE = 0.8
"""...and the reliability that both need before they count as different."""

UNRELATED, SAME_VECTOR, DIFFERENT, NOT_DECIDABLE = "unrelated", "same", "different", "not decidable"


@dataclass(frozen=True)
class Contrast:
    """States at one place, and to what degree each belongs to the first of two sides: 1 refused, 0 answered, or a share.

    `prompts` names the prompt that each row is of: rows of one prompt are drawn together, here and in what this is compared
    with. Labels are shuffled inside of `strata` (forms, categories) alone. Raises InputError for lists of different length,
    labels outside of 0 to 1, rows that are not finite, and where a side is empty.
    """

    rows: Float[Tensor, "rows d_model"]
    labels: tuple[float, ...]
    prompts: tuple[Hashable, ...]
    strata: tuple[Hashable, ...]

    @classmethod
    def of(
        cls,
        rows: Float[Tensor, "rows d_model"],
        labels: Sequence[Label],
        prompts: Sequence[Hashable] | None = None,
        strata: Sequence[Hashable] | None = None,
    ) -> Contrast:
        """Return a contrast where rows are of a prompt each, named by their order, and one stratum, unless they are given."""
        return cls(
            rows.detach().cpu().double(),
            tuple(float(label) for label in labels),
            tuple(prompts if prompts is not None else range(len(rows))),
            tuple(strata if strata is not None else (0,) * len(rows)),
        )

    def __post_init__(self) -> None:
        lengths = {len(self.rows), len(self.labels), len(self.prompts), len(self.strata)}
        if len(lengths) > 1:
            raise InputError(
                f"a contrast of {len(self.rows)} states has {len(self.labels)} labels, {len(self.prompts)} prompts and "
                f"{len(self.strata)} strata; give one of each for a state"
            )
        if not all(0 <= label <= 1 for label in self.labels):
            raise InputError("a label of a contrast is outside of 0 to 1; give shares, or 0 and 1")
        if not bool(torch.isfinite(self.rows).all()):
            raise InputError("a state of a contrast is NaN or infinite; try --dtype float32, or check the checkpoint")
        if not any(self.labels) or all(label == 1 for label in self.labels):
            raise InputError(f"all {len(self.labels)} states of a contrast are on one side; it takes two to differ")

    @property
    def vector(self) -> Float[Tensor, " d_model"]:
        """Return the difference in means, each state counting on both sides by its share: `sum s h / sum s - sum (1-s) h / sum (1-s)`."""
        weights = difference_weights(numpy.asarray(self.labels), numpy.ones(len(self.labels)))
        return torch.from_numpy(weights @ self.rows.numpy())


def difference_weights(labels: Numbers, counts: Numbers) -> Numbers:
    """Return the weights `[..., rows]` whose sum over rows is a difference in means; `counts` says how often a row is drawn.

    NaN where a side was not drawn at all.
    """
    first, second = counts * labels, counts * (1 - labels)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        weights: Numbers = first / first.sum(-1, keepdims=True) - second / second.sum(-1, keepdims=True)
    return weights


def cosines(first: Numbers, second: Numbers) -> Numbers:
    """Return the cosine of each pair of vectors `[..., d_model]`, NaN where one has no length."""
    lengths = numpy.linalg.norm(first, axis=-1) * numpy.linalg.norm(second, axis=-1)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        found: Numbers = (first * second).sum(-1) / lengths
    return found


def reliability(
    rows: Float[Tensor, "rows d_model"],
    labels: Sequence[Label],
    prompts: Sequence[Hashable] | None = None,
    *,
    halves: int = HALVES,
    seed: int = 0,
) -> float:
    """Return how well the difference in means would agree with that of as many other prompts: 1 where noise plays no part.

    The mean cosine `c` of the vectors of two halves of the prompts, over random halves, stepped up to the whole by Spearman
    and Brown's `2c / (1 + c)`; 0 where the halves do not agree at all. Raises InputError where a half lacks a side.
    """
    contrast = Contrast.of(rows, labels, prompts)
    places, sides = by_prompt(contrast)
    rng = numpy.random.default_rng([seed, 1])
    inside = numpy.zeros((halves, len(sides)), dtype=bool)
    for side in numpy.unique(sides):  # each half gets as many of both sides
        own = numpy.flatnonzero(sides == side)
        for half in inside:
            half[rng.permutation(own)[: (len(own) + int(rng.integers(2))) // 2]] = True
    given, weights = numpy.asarray(contrast.labels), inside[:, places].astype(numpy.float64)
    states = contrast.rows.numpy()
    first, second = (difference_weights(given, part) @ states for part in (weights, 1 - weights))
    between = cosines(first, second)
    if not numpy.isfinite(between).all():
        raise InputError(
            f"{len(sides)} prompts are too few to halve: a half has no state of one side, or its vector has no length; "
            "give more prompts of both sides"
        )
    mean = float(between.mean())
    return max(0.0, 2 * mean / (1 + mean)) if mean > -1 else 0.0


def by_prompt(contrast: Contrast) -> tuple[NDArray[numpy.intp], NDArray[numpy.bool_]]:
    """Return, for each row, which prompt it is of, and for each prompt whether most of it is on the first side."""
    names = {name: place for place, name in enumerate(dict.fromkeys(contrast.prompts))}
    places = numpy.asarray([names[name] for name in contrast.prompts], dtype=numpy.intp)
    shares = numpy.bincount(places, numpy.asarray(contrast.labels)) / numpy.bincount(places)
    return places, shares >= 0.5


def shuffled_vectors(contrast: Contrast, draws: int, seed: int = 0) -> Float[Tensor, "draws d_model"]:
    """Return the vectors of shuffled labels, each shuffled inside of the strata.

    Raises InputError where no stratum has two labels: nothing could be shuffled.
    """
    return torch.from_numpy(shuffled(contrast, draws, numpy.random.default_rng([seed, 2])))


def shuffled(contrast: Contrast, draws: int, rng: numpy.random.Generator) -> Numbers:
    """Do `shuffled_vectors` with a generator of the caller's."""
    strata: dict[Hashable, list[int]] = {}
    for place, name in enumerate(contrast.strata):
        strata.setdefault(name, []).append(place)
    labels = numpy.tile(numpy.asarray(contrast.labels), (draws, 1))
    if all(len({contrast.labels[place] for place in own}) == 1 for own in strata.values()):
        raise InputError(
            f"the labels are the same inside of each of {len(strata)} strata, so that there is nothing to shuffle; take "
            "strata that hold both sides"
        )
    for own in strata.values():
        labels[:, own] = rng.permuted(labels[:, own], axis=1)
    found: Numbers = difference_weights(labels, numpy.ones(labels.shape[1])) @ contrast.rows.numpy()
    return found


def random_vectors(
    vector: Float[Tensor, " d_model"], count: int = CONTROLS, seed: int = 0
) -> Float[Tensor, "count d_model"]:
    """Return vectors in random directions, as long as `vector`: the control of its effect."""
    drawn = numpy.random.default_rng([seed, 3]).standard_normal((count, len(vector)))
    drawn *= float(vector.double().norm()) / numpy.linalg.norm(drawn, axis=1, keepdims=True)
    return torch.from_numpy(drawn)


def floor(
    rows: Float[Tensor, "rows d_model"],
    labels: Sequence[Label],
    strata: Sequence[Hashable] | None = None,
    *,
    draws: int = FLOOR_DRAWS,
    seed: int = 0,
) -> float:
    """Return the 95% quantile of |cosine| between two vectors of shuffled labels: below it a cosine says nothing.

    Raises InputError as `shuffled_vectors`.
    """
    contrast = Contrast.of(rows, labels, strata=strata)
    return floor_between(contrast, contrast, draws=draws, seed=seed)


def floor_between(first: Contrast, second: Contrast, *, draws: int = FLOOR_DRAWS, seed: int = 0) -> float:
    """Do `floor` for two contrasts, whose labels are shuffled each for itself. Raises InputError as `shuffled_vectors`."""
    rng = numpy.random.default_rng([seed, 4])
    between = numpy.abs(cosines(shuffled(first, draws, rng), shuffled(second, draws, rng)))
    return float(numpy.quantile(between[numpy.isfinite(between)], FLOOR_QUANTILE))


@dataclass(frozen=True)
class Cosine:
    """The cosine of two vectors with its 95% interval, between its floor and its ceiling, and what follows.

    `value`, `low` and `high` are as measured: noise keeps them below `ceiling`, the root of the product of the reliabilities.
    """

    value: float
    low: float
    high: float
    floor: float
    ceiling: float
    verdict: str

    @property
    def disattenuated(self) -> tuple[float, float, float]:
        """Return value, low and high as they would be without noise; chance may carry them above 1, NaN with no ceiling."""
        if self.ceiling <= 0:
            return math.nan, math.nan, math.nan
        return self.value / self.ceiling, self.low / self.ceiling, self.high / self.ceiling

    def to_json(self) -> dict[str, Any]:
        """Return all of it, with the disattenuated cosine."""
        value, low, high = map(json_number, self.disattenuated)
        measured = {name: json_number(one) if isinstance(one, float) else one for name, one in vars(self).items()}
        return {**measured, "disattenuated": {"value": value, "low": low, "high": high}}


def compare(
    first: Contrast, second: Contrast, *, draws: int = FLOOR_DRAWS, resamples: int = RESAMPLES, seed: int = 0
) -> Cosine:
    """Return how alike the vectors of two contrasts are, with everything that it takes to judge it.

    Prompts that both have are drawn together. The bootstrap adds noise of its own to both vectors, which pulls its cosines
    down: its interval is moved to lie around the cosine itself. Raises InputError where `reliability` and `floor` do.
    """
    value = float(cosines(first.vector.numpy()[None], second.vector.numpy()[None])[0])
    reliabilities = tuple(reliability(one.rows, one.labels, one.prompts, seed=seed) for one in (first, second))
    drawn = resampled(first, second, resamples, seed)
    low, high = (min(1.0, max(-1.0, value + float(end - drawn.mean()))) for end in numpy.percentile(drawn, (2.5, 97.5)))
    least = floor_between(first, second, draws=draws, seed=seed)
    ceiling = math.sqrt(reliabilities[0] * reliabilities[1])
    return Cosine(value, low, high, least, ceiling, verdict_of(value, low, high, least, reliabilities))


def resampled(first: Contrast, second: Contrast, resamples: int, seed: int) -> Numbers:
    """Return the cosines of resampled prompts; draws that lack a side are left out."""
    names = {name: place for place, name in enumerate(dict.fromkeys((*first.prompts, *second.prompts)))}
    counts = numpy.random.default_rng([seed, 5]).multinomial(
        len(names), numpy.full(len(names), 1 / len(names)), size=resamples
    )
    first_drawn, second_drawn = (
        difference_weights(
            numpy.asarray(one.labels), counts[:, [names[name] for name in one.prompts]].astype(numpy.float64)
        )
        @ one.rows.numpy()
        for one in (first, second)
    )
    found = cosines(first_drawn, second_drawn)
    return found[numpy.isfinite(found)]


def verdict_of(value: float, low: float, high: float, least: float, reliabilities: Sequence[float]) -> str:
    """Return what a cosine says: `unrelated`, `same`, `different` or `not decidable`; `least` is its floor.

    Low and high are as measured; `same` and `different` are judged without the noise that the reliabilities tell.
    """
    ceiling = math.sqrt(math.prod(reliabilities))
    if abs(value) < least:
        return UNRELATED
    if ceiling > 0 and low / ceiling >= SAME:
        return SAME_VECTOR
    if ceiling > 0 and high / ceiling < SAME and min(reliabilities) >= RELIABLE:
        return DIFFERENT
    return NOT_DECIDABLE


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted for their number (Holm 1979): each is compared with the level of one test."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return tuple(adjusted)


@dataclass(frozen=True)
class Verdict:
    """A claim, the figure that bears on it, the figure's control, what follows, and that in a sentence."""

    claim: str
    figure: str
    control: str
    verdict: str
    sentence: str

    @property
    def line(self) -> str:
        """Return `claim | figure | control | verdict`."""
        return " | ".join((self.claim, self.figure, self.control, self.verdict))

    def to_json(self) -> dict[str, str]:
        """Return all of it."""
        return dict(vars(self))
