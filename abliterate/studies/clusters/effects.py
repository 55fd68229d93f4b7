"""What each direction does to each cluster of prompts that it was not made of, and whether several do more than the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from abliterate.activations.places import capture_places
from abliterate.errors import InputError
from abliterate.evaluation.paired import PairedDifference, paired_difference
from abliterate.evaluation.statistics import Rate, json_number, mean_of
from abliterate.models.live_model import LiveModel
from abliterate.projection import orthonormal_span
from abliterate.prompts.texts import Text
from abliterate.replies.openings import Opening
from abliterate.studies.clusters.acting import Acting
from abliterate.studies.clusters.clustering import Clustering
from abliterate.studies.clusters.compared import CENTROID, CONTROL_KINDS, SPLIT, Compared, difference, rows_of
from abliterate.studies.clusters.inputs import PLACE, InputDirections
from abliterate.studies.clusters.kmeans import unit
from abliterate.studies.clusters.matrix import Diagonal, assigned, cell_means, diagonal_of
from abliterate.studies.common import CONTROLS
from abliterate.studies.replies import Tokens

HALVINGS = 6
"""Of the strength, until an ablation moves harmless prompts as far as the other."""


@dataclass(frozen=True)
class Held:
    """Prompts that no direction was made of: harmful ones with their input directions, harmless ones, and the parts of both.

    `chosen` and `shown` are places in `harmful`: what is chosen is chosen on the first, and shown on the second.
    """

    harmful: tuple[Tokens, ...]
    directions: Float[NDArray[numpy.float64], "harmful d_model"]
    chosen: tuple[int, ...]
    shown: tuple[int, ...]
    harmless_chosen: tuple[Tokens, ...]
    harmless_shown: tuple[Tokens, ...]


@dataclass(frozen=True)
class Union:
    """All centroids ablated at once against the best single direction, at strengths at which both move harmless prompts alike.

    `difference` is that of the refusal log-odds, union minus single, prompt by prompt: below 0 the union removes more.
    """

    single: str
    strengths: tuple[float, float]
    divergences: tuple[float, float]
    changes: tuple[float, float]
    difference: PairedDifference

    @property
    def better(self) -> bool:
        """Return whether the union removes more refusal."""
        return self.difference.mean.value < 0 and self.difference.p < 0.05

    def to_json(self) -> dict[str, Any]:
        """Return all of it: the union first, the single second."""
        return {
            "single": self.single, "strengths": list(self.strengths), "kl": [*map(json_number, self.divergences)],
            "changes": [*map(json_number, self.changes)], "difference": self.difference.to_json(), "better": self.better,
        }  # fmt: skip


@dataclass(frozen=True)
class Effects:
    """The change of the refusal log-odds of held-out prompts, row by row: ablated on harmful ones, added to harmless ones.

    `clusters` are the nearest centroids of the harmful prompts; `splits` is what `diagonal` is of random splits; `refused` holds
    refusals in replies for the rows that were asked.
    """

    rows: tuple[Compared, ...]
    clusters: tuple[int, ...]
    ablated: Float[Tensor, "rows harmful"]
    added: Float[Tensor, "added harmless"]
    added_names: tuple[str, ...]
    length: float
    diagonal: Diagonal | None
    splits: tuple[Diagonal | None, ...]
    union: Union | None = None
    refused: Mapping[str, Rate] = field(default_factory=dict)

    @property
    def k(self) -> int:
        """Return the number of clusters."""
        return sum(one.kind == CENTROID for one in self.rows)

    @property
    def matrix(self) -> NDArray[numpy.float64]:
        """Return the mean change of each row on each cluster under ablation, NaN where no held-out prompt is in a cluster."""
        return cell_means(self.ablated.double().numpy(), numpy.asarray(self.clusters), self.k)

    def to_json(self) -> dict[str, Any]:
        """Return both matrices, D with its control, and the union."""
        matrix, added = self.matrix, dict(zip(self.added_names, self.added, strict=True))
        return {
            "length": self.length,
            "clusters": list(self.clusters),
            "rows": [
                {
                    "name": one.name, "kind": one.kind, "ablated": mean_of(self.ablated[place].tolist()).to_json(),
                    "by_cluster": [json_number(float(cell)) for cell in matrix[place]],
                    "added": mean_of(added[one.name].tolist()).to_json() if one.name in added else None,
                    "refused": self.refused[one.name].to_json() if one.name in self.refused else None,
                }
                for place, one in enumerate(self.rows) if one.kind != SPLIT
            ],
            "unedited_refused": self.refused["unedited"].to_json() if "unedited" in self.refused else None,
            "union_refused": self.refused["union"].to_json() if "union" in self.refused else None,
            "diagonal": self.diagonal.to_json() if self.diagonal else None,
            "union": self.union.to_json() if self.union else None,
        }  # fmt: skip


def effects(
    live: LiveModel,
    found: Clustering,
    held_out: Sequence[Text],
    own: InputDirections,
    *,
    harmless: Sequence[Text],
    openings: Sequence[Opening],
    controls: int = CONTROLS,
    seed: int = 0,
) -> Effects:
    """Return what the centroids of clusters do to prompts that they were not made of, beside the difference in means and chance.

    `own` are the input directions of `held_out`, by which each is given to its nearest cluster; `harmless` are prompts to which
    directions are added, whose mean state the difference in means is taken from; `openings` open the model's refusals. The best
    single direction is chosen on every other prompt, and the union held against it on the rest. Raises InputError where nothing
    is held out.

    Examples:
        >>> form, phrases = load_forms()["question"], load_phrases("builtin:phrases-tiny").first(48)
        >>> texts = {side: [Text.of(tokenizer, form, one.on(side)) for one in phrases] for side in ("harmful", "harmless")}
        >>> live, harmful, calm = LiveModel.of(model, tokenizer), texts["harmful"], texts["harmless"]
        >>> own = input_directions(live, harmful, 5, "concept", harmless=calm)
        >>> held = [*range(32, 48)]
        >>> found = cluster(own.of(range(32)), clusters=2, null=5)
        >>> table = effects(live, found, harmful[32:], own.of(held), harmless=calm[:8], openings=[(46,)])
        >>> table.matrix.shape[1]
        2
    """
    if len(own) != len(held_out) or not held_out or not harmless:
        raise InputError(
            f"{len(held_out)} held-out prompts with {len(own)} directions, and {len(harmless)} harmless ones: give the direction "
            "of each, and some of both sides"
        )
    calm = capture_places(live, harmless, (PLACE,), [found.own.layer]).at(PLACE, found.own.layer).float()
    rows = rows_of(found, calm, [""] * len(found.own), (), {}, controls=controls, seed=seed)
    every = range(len(held_out))
    quiet = tuple(text.tokens for text in harmless)
    held = Held(
        tuple(text.tokens for text in held_out), own.rows, tuple(every[::2]), tuple(every[1::2]), quiet[::2], quiet
    )
    acting = Acting(live, found.own.layer, tuple(map(tuple, openings)))
    return measured(acting, rows, held, float(difference(found.own.states, calm).norm()), seed=seed)


def measured(acting: Acting, rows: Sequence[Compared], held: Held, length: float, *, seed: int = 0) -> Effects:
    """Return what every row does: ablated at full strength, and added at one length. Raises InputError as the model is asked."""
    vectors = torch.stack([one.vector for one in rows])
    progress = acting.live.progress
    with progress.step("ablating each direction", len(rows), "directions") as advance:
        plain = acting.plain(held.harmful)
        ablated = acting.ablated(vectors[:, None], held.harmful) - plain
        advance(len(rows))
    tried = [place for place, one in enumerate(rows) if one.kind != SPLIT]
    with progress.step("adding each direction", len(tried), "directions") as advance:
        added = acting.added(length * vectors[tried], held.harmless_shown) - acting.plain(held.harmless_shown)
        advance(len(tried))
    own = [place for place, one in enumerate(rows) if one.kind == CENTROID]
    clusters, diagonal = diagonal_for(vectors[own], ablated[own], held, seed)
    splits: dict[str, list[int]] = {}
    for place, one in enumerate(rows):
        if one.kind == SPLIT:
            splits.setdefault(one.name.split(".")[0], []).append(place)
    shuffled = tuple(diagonal_for(vectors[some], ablated[some], held, seed)[1] for some in splits.values())
    names = tuple(rows[place].name for place in tried)
    return Effects(
        tuple(rows), tuple(clusters.tolist()), ablated, added, names, length, diagonal, shuffled,
        union_of(acting, rows, ablated, plain, held),
    )  # fmt: skip


def diagonal_for(
    centroids: Float[Tensor, "k d_model"], ablated: Float[Tensor, "k harmful"], held: Held, seed: int
) -> tuple[NDArray[numpy.intp], Diagonal | None]:
    """Return the nearest centroid of each held-out prompt, and D: how much further refusal falls on a centroid's own prompts."""
    clusters, _ = assigned(unit(held.directions), centroids.double().numpy())
    return clusters, diagonal_of(-ablated.double().numpy(), clusters, seed=seed)


def union_of(
    acting: Acting,
    rows: Sequence[Compared],
    ablated: Float[Tensor, "rows harmful"],
    plain: Float[Tensor, " harmful"],
    held: Held,
) -> Union | None:
    """Return the union against the best single direction; None for fewer than two centroids, or nothing to choose on.

    The single one and the strengths are chosen on the chosen part: the ablation that moves harmless prompts further is made
    weaker until it moves them no further than the other.
    """
    centroids = torch.stack([one.vector for one in rows if one.kind == CENTROID])
    if len(centroids) < 2 or not held.chosen or not held.shown or not held.harmless_chosen:
        return None
    best = ranked(rows, ablated, held)[0]
    span = orthonormal_span(centroids)
    bases = (span[span.norm(dim=1) > 0], rows[best].vector[None])
    moved = [acting.divergence(one, held.harmless_chosen) for one in bases]
    least = min(moved)
    chosen = [
        (1.0, own) if own <= least else weakened(acting, basis, held.harmless_chosen, least)
        for basis, own in zip(bases, moved, strict=True)
    ]
    prompts = [held.harmful[place] for place in held.shown]
    usual = plain[list(held.shown)]
    changes = [
        acting.ablated(basis[None], prompts, torch.tensor([strength]))[0] - usual
        for basis, (strength, _) in zip(bases, chosen, strict=True)
    ]
    union, single = (one.tolist() for one in changes)
    return Union(
        rows[best].name,
        (chosen[0][0], chosen[1][0]),
        (chosen[0][1], chosen[1][1]),
        (sum(union) / len(union), sum(single) / len(single)),
        paired_difference(single, union),
    )


def strongest(found: Effects, held: Held) -> list[int]:
    """Return the places of the single directions, those first that lower the refusal log-odds most where they are chosen."""
    return ranked(found.rows, found.ablated, held)


def ranked(rows: Sequence[Compared], ablated: Float[Tensor, "rows harmful"], held: Held) -> list[int]:
    """Return the places of single directions by their effect on the chosen part, or on all where a quick study has none."""
    tried = list(held.chosen) or list(range(len(held.harmful)))
    singles = [place for place, one in enumerate(rows) if one.kind not in CONTROL_KINDS]
    return sorted(singles, key=lambda place: float(ablated[place, tried].mean()))


def weakened(
    acting: Acting, basis: Float[Tensor, "k d_model"], prompts: Sequence[Tokens], least: float
) -> tuple[float, float]:
    """Return the strength at which an ablation moves harmless prompts by no more than `least`, and how far that is, in nats."""
    low, high, at_low = 0.0, 1.0, 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = acting.divergence(basis, prompts, middle)
        if found <= least:
            low, at_low = middle, found
        else:
            high = middle
    return low, at_low
