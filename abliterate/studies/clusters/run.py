"""Are there several refusal directions? Each prompt's own, clustered beside nulls, and what each cluster does to others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.places import capture_places
from abliterate.errors import InputError
from abliterate.evaluation.statistics import Mean, Rate, mean_of
from abliterate.extras import require
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import Forms
from abliterate.prompts.phrases import Phrases
from abliterate.storage.record_log import RecordLog, digest, once
from abliterate.studies.clusters.acting import Acting
from abliterate.studies.clusters.anchors import anchor_agreements, specific_agreement
from abliterate.studies.clusters.asked import CHOSEN, QUICK_NULL, QUICK_STEPS, SHOWN, Asked
from abliterate.studies.clusters.clustering import Clustering, cluster
from abliterate.studies.clusters.compared import CENTROID, CONE, CONTROL_KINDS, DIFFERENCE, RDO, difference, rows_of
from abliterate.studies.clusters.conditional import UNEDITED, UNION, Conditional, conditional_of
from abliterate.studies.clusters.effects import Effects, Held, measured, strongest
from abliterate.studies.clusters.geometry import cosines_of, mean_cosine, mean_gradient, reach_of
from abliterate.studies.clusters.independence import Independence, independence_of
from abliterate.studies.clusters.inputs import PLACE, InputDirections
from abliterate.studies.clusters.kmeans import spherical_kmeans
from abliterate.studies.clusters.margin import check_exact
from abliterate.studies.clusters.material import Material, material_of
from abliterate.studies.clusters.options import BASELINES, Anchor, Baseline, Method, Step, Target
from abliterate.studies.clusters.rdo import Lessons, Trained, rdo
from abliterate.studies.clusters.sides import both_sides
from abliterate.studies.clusters.wording import HARMLESS, SCORE, Shared, quartiles, shared_with
from abliterate.studies.clusters.words import CentroidWords, centroid_words, texts_of
from abliterate.studies.layers import layer_of
from abliterate.studies.replies import Unit

TOP = 3
"""Single directions of which replies are made, besides the union."""

INDEPENDENT = 16
"""Prompts whose states are looked at with directions ablated."""


@dataclass(frozen=True)
class Clusters:
    """What was found: clusters of the train prompts, what they share with words, and what their centroids do to the others.

    `own` and `calm` are the directions of all harmful prompts, and of the harmless ones that match clustered ones; `cosines` are those of
    each centroid with the difference in means by layer, and with the mean harmless gradient; `closeness` of train and held-out
    prompts with their centroid; `words` are those of each centroid; `reach` tells how far out gradient points are among real states, as quantiles.
    """

    asked: Asked
    layer: int
    material: Material
    own: InputDirections
    calm: InputDirections
    clustering: Clustering
    shared: tuple[Shared, ...]
    cosines: Mapping[str, tuple[tuple[float, ...], ...]]
    closeness: tuple[Mean, Mean]
    reach: Mean | None
    anchors: Mapping[tuple[str, str], float]
    specific: float | None
    between: tuple[float, float]
    effects: Effects
    conditional: Conditional | None
    independence: Independence | None
    trained: Mapping[str, Trained] = field(default_factory=dict)
    words: CentroidWords | None = None
    notes: tuple[str, ...] = ()

    @property
    def k(self) -> int:
        """Return the number of clusters that is more than all nulls: 1 for none."""
        return self.clustering.k

    @property
    def centroids(self) -> Float[Tensor, "k d_model"]:
        """Return the unit centroids of the clusters that are looked at."""
        return self.clustering.centroids


def clusters(
    live: LiveModel,
    phrases: Phrases,
    forms: Forms,
    *,
    method: Method = "gradient",
    layer: Literal["auto"] | int = "auto",
    number: Literal["auto"] | int = "auto",
    anchor: Anchor = "matched",
    target: Target = "crossed",
    step: Step = "scaled",
    compare: tuple[Baseline, ...] = BASELINES,
    tokens: int = 32,
    seed: int = 0,
    quick: bool = False,
    kept: RecordLog | None = None,
) -> Clusters:
    """Find out whether a model has one refusal direction or several: each prompt's own, clustered, and what each cluster does.

    `number` is that of the clusters that are looked at; `compare` are baselines; `kept` holds what an interrupted study has
    left; `quick` asks for fewer nulls and controls, for trying. Clusters and their number are of the train part of the phrases,
    effects of the others. Raises NoRefusalsError for a model that never refuses, InputError for fewer than 24 refused prompts,
    more clusters than an eighth of the prompts, a layer out of range or without gradients, gradients that are NaN, a model
    whose layers come from the disk, and one in fewer digits than float32.

    Examples:
        >>> phrases, forms = load_phrases("builtin:phrases-tiny").first(48), load_forms().choose(["question"])
        >>> live = LiveModel.of(model, tokenizer)
        >>> found = clusters(live, phrases, forms, method="concept", tokens=12, compare=(), quick=True)
        >>> found.centroids.shape[1], found.effects.matrix.shape[1] == len(found.centroids)
        (160, True)
    """
    asked = Asked(method, layer, number, anchor, target, step, compare, tokens, seed, quick)
    return study(live, phrases, forms, asked, kept)


def study(live: LiveModel, phrases: Phrases, forms: Forms, asked: Asked, kept: RecordLog | None = None) -> Clusters:
    """Do `clusters` for what is asked as one value."""
    check_possible(live, asked)
    material = material_of(
        live, phrases, forms, tokens=asked.tokens, target=asked.target, enough=asked.enough, kept=kept
    )
    return studied(live, material, asked, kept)


def check_possible(live: LiveModel, asked: Asked) -> None:
    """Raise InputError, before anything is asked, for a layer out of range and for what the method cannot be done on."""
    require("study", "clusters")
    layer_of(asked.layer, live.architecture.depth)
    check_exact(live)


def studied(live: LiveModel, material: Material, asked: Asked, kept: RecordLog | None = None) -> Clusters:
    """Return what is found in prompts that were made ready."""
    layer = layer_of(asked.layer, live.architecture.depth)
    sides = both_sides(live, material, layer, asked, kept)
    own, calm = sides.own, sides.calm
    train = material.places(*asked.made_of)
    made = own.of(train)
    null = QUICK_NULL if asked.quick else asked.null
    clustering = cluster(
        made, clusters=asked.clusters, harmless=calm, null=null, seed=asked.seed, progress=live.progress
    )
    states = capture_places(live, [*material.harmful, *material.harmless], (PLACE,), kept=kept)
    middle = len(material.harmful)
    quiet = states.at(PLACE, layer)[middle:].float()
    acting = Acting(live, layer, material.openings, kept)
    shared = shared_with(clustering.labels, attributes_of(material, acting, made, calm, clustering), seed=asked.seed)
    trained = trained_of(live, material, made, quiet[train], layer, asked, clustering.shown, kept)
    held = held_of(material, own, asked)
    effects = effects_of(acting, material, clustering, quiet, held, trained, asked)
    cone = trained[CONE].basis if CONE in trained else None
    said_no = refusals_of(acting, material.units[0], effects, held, cone, asked.tokens) if material.units else {}
    effects = replace(effects, refused={name: Rate(sum(some), len(some)) for name, some in said_no.items()})
    best = effects.rows[strongest(effects, held)[0]]
    conditional = conditional_of(acting, material, clustering, sides, (best.name, best.vector), cone, said_no, asked)
    usual = mean_gradient(calm)
    _, near = clustering.assign(own.of(material.places(*asked.held_out)))
    cosines = cosines_of(clustering, states.resid[:, :, 0], train, middle, usual)
    texts = [material.harmful[place] for place in material.places(SHOWN)][:INDEPENDENT]
    rows = [one for one in effects.rows if one.kind in (CENTROID, DIFFERENCE)]
    independence = independence_of(live, texts, torch.stack([one.vector for one in rows]), [one.name for one in rows])
    return Clusters(
        asked, layer, material, own, calm, clustering, shared, cosines,
        (mean_of(clustering.closeness.tolist()), mean_of(near.tolist())),
        reach_of(own, states.at(PLACE, layer)),
        anchor_agreements(made, quiet[list(made.kept)], clustering.shown, asked.seed),
        None if usual is None else specific_agreement(made, usual, clustering.labels, clustering.shown, asked.seed),
        (mean_cosine(made.vectors), mean_cosine(calm.vectors)),
        effects, conditional, independence, trained,
        centroid_words(live, clustering.centroids, texts_of(material)), notes_of(own, calm, clustering),
    )  # fmt: skip


def attributes_of(
    material: Material, acting: Acting, made: InputDirections, calm: InputDirections, clustering: Clustering
) -> dict[str, list[str]]:
    """Return what is known of each clustered prompt: its attributes, how strongly it is refused, and its match's cluster."""
    found = {name: [values[place] for place in made.kept] for name, values in material.attributes.items()}
    scores = (
        [one.value for one in made.walks]
        if made.walks
        else acting.plain([material.harmful[place].tokens for place in made.kept]).tolist()
    )
    found[SCORE] = quartiles(scores)
    matched = calm.of(made.kept)
    if len(matched) > clustering.shown:
        labels = spherical_kmeans(matched.rows, clustering.shown, seed=clustering.seed).labels
        by_place = dict(zip(matched.kept, labels.tolist(), strict=True))
        found[HARMLESS] = [str(by_place.get(place, "none")) for place in made.kept]
    return found


def trained_of(
    live: LiveModel,
    material: Material,
    made: InputDirections,
    quiet: Float[Tensor, "train d_model"],
    layer: int,
    asked: Asked,
    k: int,
    kept: RecordLog | None,
) -> dict[str, Trained]:
    """Return by kind the direction by gradient training, and a cone of as many as there are clusters, where these are asked for."""
    if RDO not in asked.compare:
        return {}
    start = difference(made.states, quiet)
    train = material.places(*asked.made_of)
    harmful, harmless = ([some[place].tokens for place in train] for some in (material.harmful, material.harmless))
    lessons = Lessons(harmful, harmless, material.targets.refusal[0], start, float(start.norm()), layer)
    steps = QUICK_STEPS if asked.quick else None

    def trained(number: int) -> Trained:
        def make() -> list[Any]:
            one = rdo(live, lessons, number, steps=steps, seed=asked.seed)
            return [one.basis.tolist(), list(one.losses)]

        key = ["rdo", number, layer, digest(start.tolist()), [*map(list, harmful)], steps, asked.seed]
        basis, losses = once(kept, key, make)
        return Trained(torch.tensor(basis), tuple(losses))

    return {RDO: trained(1), **({CONE: trained(k)} if k > 1 else {})}


def held_of(material: Material, own: InputDirections, asked: Asked) -> Held:
    """Return the prompts that no direction was made of, with their directions."""
    directions = own.of(material.places(*asked.held_out))
    splits = [material.splits[place] for place in directions.kept]

    def quiet(split: str) -> tuple[tuple[int, ...], ...]:
        return tuple(material.harmless[place].tokens for place in material.places(split))

    return Held(
        tuple(material.harmful[place].tokens for place in directions.kept),
        directions.rows,
        tuple(place for place, one in enumerate(splits) if one == CHOSEN),
        tuple(place for place, one in enumerate(splits) if one == SHOWN),
        () if asked.quick else quiet(CHOSEN),
        quiet(SHOWN),
    )


def effects_of(
    acting: Acting,
    material: Material,
    clustering: Clustering,
    quiet: Float[Tensor, "prompts d_model"],
    held: Held,
    trained: Mapping[str, Trained],
    asked: Asked,
) -> Effects:
    """Return what all directions do. Raises InputError where nothing is held out."""
    if not held.harmful or not held.harmless_shown:
        raise InputError("no prompt with a direction is held out of the clusters; give more phrases")
    calm = quiet[material.places(*asked.made_of)]
    own = clustering.own
    categories = [material.attributes["category"][place] for place in own.kept]
    more = {kind: one.basis for kind, one in trained.items()}
    rows = rows_of(clustering, calm, categories, asked.compare, more, controls=asked.controls, seed=asked.seed)
    return measured(acting, rows, held, float(difference(own.states, calm).norm()), seed=asked.seed)


def refusals_of(
    acting: Acting, unit: Unit, found: Effects, held: Held, cone: Float[Tensor, "k d_model"] | None, tokens: int
) -> dict[str, tuple[bool, ...]]:
    """Return which replies to the report part refuse: unedited, with single directions, with all centroids, with a whole cone.

    Single ones are those that do most on the select part.
    """
    part = unit.part(SHOWN)
    said_no = {UNEDITED: acting.refusals(part, None, tokens)}
    for place in strongest(found, held)[:TOP]:
        said_no[found.rows[place].name] = acting.refusals(part, found.rows[place].vector[None], tokens)
    if found.k > 1:
        centroids = torch.stack([one.vector for one in found.rows if one.kind == CENTROID])
        said_no[UNION] = acting.refusals(part, centroids, tokens)
    if cone is not None:
        said_no[CONE] = acting.refusals(part, cone, tokens)
    return said_no


def notes_of(own: InputDirections, calm: InputDirections, clustering: Clustering) -> tuple[str, ...]:
    """Return a line for each thing that a reader of the figures must know."""
    notes = []
    for side, one in (("harmful", own), ("harmless", calm)):
        notes += [f"{count} {side} prompts are left out: {why}" for why, count in (one.dropped or {}).items()]
    if clustering.k == 1 and clustering.shown > 1 and clustering.asked is None:
        notes.append(
            f"no number of clusters is more than all nulls; the {clustering.shown} clusters shown are a candidate, to be looked at"
        )
    return tuple(notes)


def vectors_to_save(found: Clusters) -> dict[str, Float[Tensor, " d_model"]]:
    """Return centroids and what they were held against by the names that they are saved under; what is chance is left away."""
    form = found.material.units[0].form.name if found.material.units else "prompt"
    return {
        f"{form}/{one.name.replace(' ', '-').replace('/', '-')}/resid.{found.layer}": one.vector
        for one in found.effects.rows
        if one.kind not in CONTROL_KINDS
    }
