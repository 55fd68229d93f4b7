"""Directions that clusters are held against, and the clusters' own: each with a name and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.studies.clusters.clustering import Clustering
from abliterate.studies.clusters.inputs import InputDirections
from abliterate.studies.clusters.som import som_directions
from abliterate.studies.common import CONTROLS, random_vectors

CENTROID, DIFFERENCE, CATEGORY, SOM, RDO, CONE, PRINCIPAL, RANDOM, SPLIT = (
    "centroid", "difference in means", "category", "som", "rdo", "cone", "principal", "random", "random split",
)  # fmt: skip

CONTROL_KINDS = (RANDOM, SPLIT)
"""What is chance; no single direction is chosen among these."""

ENOUGH = 8
"""Prompts of a category that its difference in means needs."""

NEURONS = 5
"""Directions of a map that are looked at: the paper's search picks 5 to 7."""


@dataclass(frozen=True)
class Compared:
    """One direction: a unit vector."""

    name: str
    kind: str
    vector: Float[Tensor, " d_model"]


def difference(own: Float[Tensor, "prompts d_model"], calm: Float[Tensor, "calm d_model"]) -> Float[Tensor, " d_model"]:
    """Return the difference in means of states."""
    return (own.double().mean(0) - calm.double().mean(0)).float()


def rows_of(
    found: Clustering,
    calm: Float[Tensor, "calm d_model"],
    categories: Sequence[str],
    baselines: Sequence[str],
    more: Mapping[str, Float[Tensor, "directions d_model"]],
    *,
    controls: int = CONTROLS,
    seed: int = 0,
) -> tuple[Compared, ...]:
    """Return all directions: centroids, baselines, then what is chance.

    `calm` are the states of harmless prompts; `categories` are those of the clustered prompts; `more` are directions made
    elsewhere, by kind: one alone has the kind's name.
    """
    own, k = found.own, found.shown
    together = difference(own.states, calm)
    rows = [(f"cluster {place + 1}", CENTROID, row) for place, row in enumerate(found.centroids)]
    rows.append((DIFFERENCE, DIFFERENCE, together))
    if "categories" in baselines:
        for name in dict.fromkeys(categories):
            inside = [row for row, one in enumerate(categories) if one == name]
            if len(inside) >= ENOUGH:
                rows.append((name, CATEGORY, difference(own.states[inside], calm)))
    if "som" in baselines:
        neurons = som_directions(own.states, calm, seed=seed)[:NEURONS].float()
        rows += [(f"neuron {place}", SOM, row) for place, row in enumerate(neurons, 1)]
    for kind, vectors in more.items():
        names = [kind] if len(vectors) == 1 else [f"{kind} {place}" for place in range(1, len(vectors) + 1)]
        rows += [(name, kind, vector) for name, vector in zip(names, vectors, strict=True)]
    rows += [(f"principal {place}", PRINCIPAL, row) for place, row in enumerate(principal(own, k), 1)]
    rows += [
        (f"random {place}", RANDOM, row)
        for place, row in enumerate(random_vectors(together, controls, seed).float(), 1)
    ]
    for number, centroids in enumerate(found.splits(controls), 1):
        rows += [
            (f"split {number}.{place}", SPLIT, torch.from_numpy(row).float()) for place, row in enumerate(centroids, 1)
        ]
    return tuple(Compared(name, kind, torch.nn.functional.normalize(row.float(), dim=0)) for name, kind, row in rows)


def principal(own: InputDirections, count: int) -> Float[Tensor, "count d_model"]:
    """Return the first principal directions of the input directions, uncentred, turned to their mean's side."""
    axes = torch.linalg.svd(own.vectors.double(), full_matrices=False)[2][:count]
    sides = (axes @ own.vectors.double().mean(0)).sign()
    turned: Tensor = axes * torch.where(sides == 0, 1.0, sides)[:, None]
    return turned.float()
