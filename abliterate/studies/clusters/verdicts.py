"""What follows: one direction is enough, several directions, or clusters of wording; and the claims on the way there."""

from __future__ import annotations

from collections.abc import Sequence

from abliterate.evaluation.figure_names import interval_text, percent, rate_words
from abliterate.evaluation.statistics import Mean, Rate
from abliterate.studies.clusters.anchors import DECIDES
from abliterate.studies.clusters.matrix import Diagonal
from abliterate.studies.clusters.run import Clusters
from abliterate.studies.clusters.wording import CATEGORY, WORDING, Shared, is_wording
from abliterate.studies.common import Verdict

ONE, SEVERAL, CLUSTERS_OF_WORDING = "one direction is enough", "several directions", "clusters of wording"

REACHED = 0.8
"""Share of prompts whose walks must reach both sides."""


def conclusion(found: Clusters) -> str:
    """Return what the study concludes.

    Clusters that a Gaussian or shuffled coordinates have as well are none. Clusters that share more with how things are asked, or with the harmless
    phrases that match, than with categories are of wording. Of the others there are several directions only where each acts
    most on its own held-out prompts, and all of them do more than the best single one at the same divergence.
    """
    choice = found.clustering.choice
    if choice.against_drawn == 1:
        return ONE
    if is_wording(found.shared):
        return CLUSTERS_OF_WORDING
    effects = found.effects
    if choice.k > 1 and effects.diagonal and effects.diagonal.shown and effects.union and effects.union.better:
        return SEVERAL
    return ONE


def verdicts_of(found: Clusters) -> tuple[Verdict, ...]:
    """Return the claims in the order of the steps, the conclusion last."""
    return (
        *reached_claims(found),
        *number_claims(found),
        *wording_claims(found.shared),
        *anchor_claims(found),
        *held_claims(found),
        *effect_claims(found),
        last_claim(found),
    )


def reached_claims(found: Clusters) -> list[Verdict]:
    """Return whether walks along the gradient reach where the model answers, and where it refuses."""
    walks = found.own.walks
    if not walks or found.reach is None:
        return []
    rate = Rate(sum(one.crossed for one in walks), len(walks))
    return [
        Verdict(
            "each prompt's state can be walked to a refusal and to an answer within .2 of its length",
            rate_words(rate),
            f"ends lie further out than {percent(found.reach.value, 0)} of real states, on average",
            "reached" if rate.value >= REACHED else "not reached",
            "",
        )
    ]


def number_claims(found: Clusters) -> list[Verdict]:
    """Return how many clusters are more than their nulls."""
    choice = found.clustering.choice
    spread = next((one for one in choice.spreads if one.k == (choice.k if choice.k > 1 else choice.candidate)), None)
    if spread is None:
        return []
    beside = (
        f"; harmless phrases {spread.harmless_stability:.2f}, {spread.harmless_silhouette:.2f}"
        if spread.harmless_stability is not None and spread.harmless_silhouette is not None
        else ""
    )
    return [
        Verdict(
            "prompts fall into clusters by their own directions",
            f"{spread.k} clusters: stability {spread.stability:.2f}, silhouette {spread.silhouette:.2f}",
            f"95% of a Gaussian of equal mean and covariance {spread.null_stability:.2f}, {spread.null_silhouette:.2f}; of "
            f"shuffled coordinates {spread.shuffled_stability:.2f}, {spread.shuffled_silhouette:.2f}{beside}",
            f"{choice.k} clusters" if choice.k > 1 else "no more than the nulls",
            "",
        )
    ]


def wording_claims(shared: Sequence[Shared]) -> list[Verdict]:
    """Return whether clusters share more with categories than with words."""
    own = {one.attribute: one for one in shared}
    most = max((own[name] for name in WORDING if name in own), key=lambda one: one.ami, default=None)
    if CATEGORY not in own or most is None:
        return []
    category = own[CATEGORY]
    verdict = "wording" if is_wording(shared) else "category" if category.shown else "neither is shown"
    return [
        Verdict(
            "clusters are of what is asked, not of how",
            f"adjusted mutual information with the category {category.ami:.2f}, p {category.p:.2g}",
            f"with the {most.attribute} {most.ami:.2f}, p {most.p:.2g} (Holm)",
            verdict,
            "",
        )
    ]


def anchor_claims(found: Clusters) -> list[Verdict]:
    """Return whether the anchor decides the clusters of concept vectors."""
    if found.asked.method != "concept" or not found.anchors:
        return []
    pair = min(found.anchors, key=lambda one: found.anchors[one])
    value = found.anchors[pair]
    return [
        Verdict(
            "clusters of concept vectors are the same whatever the anchor",
            f"least agreement {value:.2f} (adjusted Rand index)",
            f"anchors {pair[0]} and {pair[1]}",
            "the anchor decides" if value < DECIDES else "they are",
            "",
        )
    ]


def held_claims(found: Clusters) -> list[Verdict]:
    """Return whether held-out prompts lie as close to their centroid as those that it was made of."""
    train, held = found.closeness
    return [
        Verdict(
            "held-out prompts lie as close to their centroid",
            f"mean cosine {mean_words(held)}",
            f"of the prompts that centroids were made of {mean_words(train)}",
            "as close" if held.interval[1] >= train.interval[0] else "further away",
            "",
        )
    ]


def effect_claims(found: Clusters) -> list[Verdict]:
    """Return whether each centroid acts most on its own cluster, and whether all together do more than the best single one."""
    effects, claims = found.effects, []
    if effects.diagonal:
        drawn = [one.value for one in effects.splits if one]
        control = f"random splits {min(drawn):+.2f} to {max(drawn):+.2f}" if drawn else "no random split has two parts"
        claims.append(
            Verdict(
                "each centroid, ablated, acts most on its own held-out prompts",
                f"D {diagonal_words(effects.diagonal)}",
                control,
                "shown" if effects.diagonal.shown else "not shown",
                "",
            )
        )
    if effects.union:
        one = effects.union
        claims.append(
            Verdict(
                "all centroids ablated at once remove more refusal than the best single direction, at equal divergence",
                f"change {one.changes[0]:+.2f} against {one.changes[1]:+.2f} ({one.single}), difference "
                f"{mean_words(one.difference.mean)}, p {one.difference.p:.2g}",
                f"KL {one.divergences[0]:.2g} and {one.divergences[1]:.2g} at strengths {one.strengths[0]:.2f} and {one.strengths[1]:.2f}",
                "shown" if one.better else "not shown",
                "",
            )
        )
    return claims


def last_claim(found: Clusters) -> Verdict:
    """Return the conclusion."""
    choice, verdict = found.clustering.choice, conclusion(found)
    why = {
        ONE: "no number of clusters of the prompts' own directions is both more than chance and of an effect of its own",
        SEVERAL: f"the prompts' own directions fall into {choice.k} clusters, each of which acts most on its own prompts, and "
        "which together remove more refusal than any one",
        CLUSTERS_OF_WORDING: "the prompts' own directions fall into clusters, but those are of how things are asked, which "
        "harmless phrases share",
    }
    return Verdict(
        "the model has several refusal directions",
        f"number of clusters beyond all nulls {choice.k}, beyond the drawn ones alone {choice.against_drawn}",
        "Gaussian, shuffled coordinates, harmless phrases, wording, random splits, the best single direction",
        verdict,
        "" if found.asked.quick else f"{verdict[0].upper()}{verdict[1:]}: {why[verdict]}.",
    )


def diagonal_words(one: Diagonal) -> str:
    """Return D as `+0.52 [+0.31, +0.70], p 0.0005`."""
    return f"{one.value:+.2f} {interval_text(f'{one.low:+.2f}', f'{one.high:+.2f}')}, p {one.p:.2g}"


def mean_words(mean: Mean) -> str:
    """Return a mean as `+1.20 [+1.00, +1.40]`."""
    low, high = mean.interval
    return f"{mean.value:+.2f} {interval_text(f'{low:+.2f}', f'{high:+.2f}')}"
