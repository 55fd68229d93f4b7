"""`abliterate clusters`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from rich.console import Group, RenderableType

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.studies import closing, plain_table, study_json, verdict_table
from abliterate.evaluation.figure_names import mean_text, rate_words
from abliterate.pipeline.study_options import FRAMED_FLAGS, StudyOptions
from abliterate.studies.clusters.options import ClustersOptions

if TYPE_CHECKING:
    from abliterate.commands.clusters import ClustersStudy
    from abliterate.studies.clusters.conditional import Conditional
    from abliterate.studies.clusters.run import Clusters


@verb("study", "abliterate clusters org/model --quick", "abliterate clusters org/model --clusters 4 --out ./study")
def clusters(
    options: Annotated[StudyOptions, flags(*FRAMED_FLAGS)],
    clusters_options: ClustersOptions,
    as_json: AsJson = False,
) -> None:
    """Find out whether there is one refusal direction or several: each prompt's own, clustered, and what each cluster does."""
    from abliterate.commands.clusters import clusters

    one = clusters(options, clusters_options, progress())
    show(found(one), study_json(one.record, one.path), as_json)


def found(one: ClustersStudy) -> RenderableType:
    """Return how many clusters there are beside the nulls, what they share with words, what each does, and what follows."""
    parts = [numbers(one.found), members(one.found), shared(one.found), effects(one.found)]
    if one.found.conditional:
        parts.append(conditional(one.found.conditional))
    return Group(*parts, verdict_table(one.record.verdicts), *closing(one.record, one.path))


def numbers(found: Clusters) -> RenderableType:
    """Return stability and silhouette of each number of clusters, beside the nulls."""
    rows = []
    for one in found.clustering.choice.spreads:
        figures = []
        for own, *nulls in (
            (one.stability, one.null_stability, one.shuffled_stability, one.harmless_stability),
            (one.silhouette, one.null_silhouette, one.shuffled_silhouette, one.harmless_silhouette),
        ):
            figures += [f"{own:.2f}", " ".join(f"{value:.2f}" for value in nulls if value is not None)]
        rows.append((str(one.k), *figures, "yes" if one.beyond_all else "no"))
    beside = "Gaussian, shuffled (95%), harmless"
    return plain_table(("k", "stability", beside, "silhouette", beside, "beyond all"), rows)


def members(found: Clusters) -> RenderableType:
    """Return the clusters that are looked at, with the prompts closest to each centroid, and its words."""
    own = found.clustering
    said = found.words.words if found.words else ((),) * own.shown
    rows = [
        (
            str(cluster + 1),
            str(size),
            "; ".join(found.material.names[place] for place in own.members(cluster)[:3]),
            ", ".join(said[cluster]) or "none",
        )
        for cluster, size in enumerate(own.partition.sizes)
    ]
    return plain_table(("cluster", "prompts", "closest", "words of its centroid"), rows)


def shared(found: Clusters) -> RenderableType:
    """Return what the clusters share with what is known of the prompts."""
    rows = [(one.attribute, f"{one.ami:.2f}", f"{one.p:.2g}", f"{one.ari:.2f}") for one in found.shared]
    return plain_table(("shared with", "AMI", "p (Holm)", "ARI"), rows)


def effects(found: Clusters) -> RenderableType:
    """Return what each direction does, ablated on each cluster of held-out prompts, and added to harmless ones."""
    from abliterate.studies.clusters.compared import SPLIT

    own = found.effects
    added = {name: float(row.mean()) for name, row in zip(own.added_names, own.added, strict=True)}
    rows = []
    for place, one in enumerate(own.rows):
        if one.kind != SPLIT:
            cells = " ".join(f"{cell:+.1f}" if cell == cell else "none" for cell in own.matrix[place].tolist())
            refused = own.refused.get(one.name)
            rate = f"{refused.count}/{refused.total}" if refused else ""
            whole = f"{float(own.ablated[place].mean()):+.1f}"
            rows.append((one.name, one.kind, cells, whole, f"{added[one.name]:+.1f}", rate))
    head = ("direction", "kind", "ablated, by cluster", "over all", "added", "refused")
    return plain_table(head, rows)


def conditional(found: Conditional) -> RenderableType:
    """Return what each prompt's nearest centroid does to it, beside all centroids at once and one direction for all prompts."""
    from abliterate.studies.clusters.conditional import UNEDITED

    rows = [
        (
            one.name,
            mean_text(one.change.value, *one.change.interval, digits=2),
            rate_words(one.refused) if one.refused else "",
            mean_text(one.divergence.value, *one.divergence.interval),
        )
        for one in found.arms
    ]
    unedited = rate_words(found.unedited) if found.unedited else ""
    others = mean_text(found.others.value, *found.others.interval, digits=2)
    rows += [("other clusters' centroids", others, "", ""), (UNEDITED, "", unedited, "")]
    return plain_table(("held-out prompts, ablated", "change", "refused", "KL on harmless"), rows)
