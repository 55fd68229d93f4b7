"""Conditional use: each prompt ablated with the centroid of its own nearest cluster, against all centroids at once and one for all.

Which cluster is nearest is decided on the prompt alone, before anything is ablated. Rows of a batch do not see each other: prompts
of one cluster go together under its centroid, which is the same as a batch in which every row has its own (`ablated`, `when`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from abliterate.evaluation.statistics import Mean, Rate, mean_of
from abliterate.projection import orthonormal_span
from abliterate.studies.clusters.acting import Acting
from abliterate.studies.clusters.asked import SHOWN, Asked
from abliterate.studies.clusters.clustering import Clustering
from abliterate.studies.clusters.compared import CONE
from abliterate.studies.clusters.material import Material
from abliterate.studies.clusters.sides import Sides
from abliterate.studies.replies import Tokens, Unit

NEAREST, UNION, UNEDITED = "nearest", "union", "unedited"

BY_GRADIENT = "the cosine of each centroid with the prompt's own direction, for which its gradients are needed"
BY_STATE = "the cosine of each centroid with the prompt's state less the mean of harmless prompts of other parts"


@dataclass(frozen=True)
class Arm:
    """What is ablated, and its effects on held-out prompts, all at full strength.

    `change` is that of the refusal log-odds of harmful prompts, `refused` their greedy replies that refuse (None where none were
    made), `divergence` the KL(original || ablated) at the first reply token on harmless prompts, in nats.
    """

    name: str
    what: str
    change: Mean
    divergence: Mean
    refused: Rate | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "name": self.name, "what": self.what, "change": self.change.to_json(), "kl": self.divergence.to_json(),
            "refused": self.refused.to_json() if self.refused else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Conditional:
    """The arms, the nearest centroid first; `others` is the change with the other clusters' centroids, on average.

    `clusters` are those that held-out prompts are given, harmful ones and harmless ones; `left_out` says how many prompts of both
    sides have no direction of their own, and are in no arm.
    """

    by: str
    arms: tuple[Arm, ...]
    others: Mean
    clusters: tuple[tuple[int, ...], tuple[int, ...]]
    left_out: tuple[int, int]
    unedited: Rate | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "by": self.by, "arms": [one.to_json() for one in self.arms], "others": self.others.to_json(),
            "clusters": [list(one) for one in self.clusters], "left_out": list(self.left_out),
            "unedited_refused": self.unedited.to_json() if self.unedited else None,
        }  # fmt: skip


@dataclass(frozen=True)
class HeldOut:
    """The report part: prompts of both sides that have a cluster, and the places of the harmful ones in the unit that is replied to."""

    harmful: tuple[Tokens, ...]
    harmless: tuple[Tokens, ...]
    clusters: tuple[NDArray[numpy.intp], NDArray[numpy.intp]]
    unit: Unit | None
    rows: tuple[tuple[int, int], ...]
    """Of each harmful prompt of the unit: its place in `harmful`, and in the unit."""


def conditional_of(
    acting: Acting,
    material: Material,
    clustering: Clustering,
    sides: Sides,
    single: tuple[str, Float[Tensor, " d_model"]],
    cone: Float[Tensor, "k d_model"] | None,
    said_no: Mapping[str, Sequence[bool]],
    asked: Asked,
) -> Conditional | None:
    """Return what each prompt's nearest centroid does, beside all of them, a single direction for all prompts, and a whole cone.

    `said_no` tells by name which replies to the unit's report part refuse, unedited and with what was ablated already. None for
    fewer than two centroids, and where no prompt of a side has a cluster.
    """
    held = held_out(material, clustering, sides)
    if clustering.shown < 2 or not held.harmful or not held.harmless:
        return None
    centroids = clustering.centroids
    span = orthonormal_span(centroids)
    plain = acting.plain(held.harmful)
    table = acting.ablated(centroids[:, None], held.harmful) - plain
    own = torch.from_numpy(held.clusters[0])
    at = torch.arange(len(own))
    nearest = table[own, at]
    others = (table.sum(0) - nearest) / (len(table) - 1)
    moved = torch.empty(len(held.harmless), dtype=torch.float64)
    for place, rows in by_cluster(held.clusters[1]):
        moved[rows] = acting.divergences(centroids[place][None], [held.harmless[row] for row in rows])
    found = Arm(
        NEAREST, "the centroid of each prompt's nearest cluster", mean_of(nearest.tolist()), mean_of(moved.tolist()),
        replies_of(acting, held, centroids, asked.tokens),
    )  # fmt: skip
    bases = {
        (UNION, "all centroids at once"): span[span.norm(dim=1) > 0],
        (single[0], "the best single direction"): single[1][None],
    }
    if cone is not None:
        bases[CONE, f"a whole cone of {len(cone)} by gradient training"] = cone
    arms = [
        Arm(
            name, what, mean_of((acting.ablated(basis[None], held.harmful)[0] - plain).tolist()),
            mean_of(acting.divergences(basis, held.harmless).tolist()), rate_of(held, said_no.get(name)),
        )
        for (name, what), basis in bases.items()
    ]  # fmt: skip
    total = len(material.places(SHOWN))
    return Conditional(
        BY_GRADIENT if asked.walks else BY_STATE, (found, *arms), mean_of(others.tolist()),
        (tuple(held.clusters[0].tolist()), tuple(held.clusters[1].tolist())),
        (total - len(held.harmful), total - len(held.harmless)), rate_of(held, said_no.get(UNEDITED)),
    )  # fmt: skip


def held_out(material: Material, clustering: Clustering, sides: Sides) -> HeldOut:
    """Return the report part's prompts with their nearest clusters."""
    harmful, harmless = sides.alone
    unit = material.units[0].part(SHOWN) if material.units else None
    # The prompts of the first unit come first in the material.
    order = [place for place in material.places(SHOWN) if unit and place < len(material.units[0].texts)]
    rows = tuple((row, order.index(place)) for row, place in enumerate(harmful.kept) if place in order)
    return HeldOut(
        tuple(material.harmful[place].tokens for place in harmful.kept),
        tuple(material.harmless[place].tokens for place in harmless.kept),
        (clustering.assign(harmful)[0], clustering.assign(harmless)[0]),
        unit,
        rows,
    )


def by_cluster(clusters: NDArray[numpy.intp]) -> list[tuple[int, list[int]]]:
    """Return each cluster that is there, with its rows."""
    return [(place, numpy.flatnonzero(clusters == place).tolist()) for place in sorted(set(clusters.tolist()))]


def replies_of(acting: Acting, held: HeldOut, centroids: Float[Tensor, "k d_model"], tokens: int) -> Rate | None:
    """Return how many prompts of the unit are refused with the centroid of their own cluster ablated; None without a unit."""
    if held.unit is None or not held.rows:
        return None
    clusters = held.clusters[0][[row for row, _ in held.rows]]
    count = 0
    for place, members in by_cluster(clusters):
        places = [held.rows[one][1] for one in members]
        part = replace(
            held.unit,
            phrases=tuple(held.unit.phrases[one] for one in places),
            texts=tuple(held.unit.texts[one] for one in places),
        )
        count += sum(acting.refusals(part, centroids[place][None], tokens))
    return Rate(count, len(clusters))


def rate_of(held: HeldOut, said_no: Sequence[bool] | None) -> Rate | None:
    """Return the rate of refusals among the prompts that have a cluster; None where no replies were made."""
    if said_no is None or not held.rows:
        return None
    own = [said_no[place] for _, place in held.rows]
    return Rate(sum(own), len(own))
