"""Several refusal directions or one: prompts by their own directions, stability beside nulls, what clusters share with words, what each does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section
from abliterate.studies.clusters.stability import NULLS

MARKUP = """\
<section id="clusters"><h2>Clusters</h2>
<p>Each harmful prompt has a refusal direction of its own at layer {{ layer }}. Do these fall into clusters, and does each cluster act on its own prompts? The study concludes: <strong>{{ conclusion }}</strong>. {{ of }}</p>
<figure>{{ plot("plot-clusters", "Each prompt's own direction in two principal components, by cluster; the table below names the prompts closest to each centroid") }}
<figcaption>Each prompt's own direction, in two principal components, with the centroids as stars.</figcaption>{{ save("plot-clusters") }}</figure>
{{ table("Clusters, the phrases closest to each centroid, and its words by mutual information, for which the centroids compete.", ["cluster", "prompts", "mean cosine with its centroid", "closest", "words of its centroid"], members) }}
<figure>{{ plot("plot-stability", "Stability and silhouette of each number of clusters against all nulls; the table below holds the same figures") }}
<figcaption>Stability over resamples and silhouette, against the 95% quantiles of a Gaussian of equal mean and covariance and of shuffled coordinates, and against harmless phrases.</figcaption>{{ save("plot-stability") }}</figure>
{{ table("Numbers of clusters.", ["clusters", "stability", "Gaussian 95%", "shuffled 95%", "harmless", "silhouette", "Gaussian 95%", "shuffled 95%", "harmless", "beyond all"], spreads) }}
<figure>{{ plot("plot-shared", "Adjusted mutual information of the clusters with what is known of the prompts; the table below holds the same figures") }}
<figcaption>What the clusters share with what is known of their prompts; full bars are more than chance.</figcaption>{{ save("plot-shared") }}</figure>
{{ table("Adjusted mutual information, p by 1,000 permutations and Holm, adjusted Rand index.", ["with", "AMI", "p", "ARI"], shared) }}
<figure>{{ plot("plot-cluster-effects", "Change of the refusal log-odds with each direction ablated, by cluster of held-out prompts; the table below holds the same figures") }}
<figcaption>Change of the refusal log-odds of held-out prompts with each direction ablated, by cluster. D = {{ diagonal }}.</figcaption>{{ save("plot-cluster-effects") }}</figure>
{{ table("What each direction does to held-out prompts.", ["direction", "kind"] + columns + ["ablated, all", "added to harmless", "replies refused"], effects) }}
{% if conditional %}{{ table("Held-out prompts, each ablated with the centroid of its own nearest cluster alone, against all centroids at once and the best single direction; at full strength. " + decided, ["ablated", "change of the refusal log-odds", "replies refused", "KL at the first token, harmless prompts"], conditional) }}{% endif %}
</section>"""

NAMES = ("conclusion", "clusters", "shared", "effects", "plane", "conditional")


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the tables; None where the study is not there, or lacks its controls."""
    record = records.studies.get("clusters")
    if record is None or not drawable(record):
        return None
    results = record["results"]
    own, effects = results["clusters"], results["effects"]
    return {
        "layer": str(record["settings"].get("layer")),
        "conclusion": results["conclusion"],
        "of": "" if own["k"] > 1 else f"The {own['shown']} clusters shown are a candidate: no number of them is more than all nulls.",
        "members": [
            [str(place), str(one["size"]), text.number_html(one["closeness"]), "; ".join(one["medoids"]), ", ".join(one["words"] or ("none",))]
            for place, one in enumerate(own["members"], 1)
        ],
        "spreads": [spread_row(one) for one in own["choice"]["spreads"]],
        "shared": [
            [one["attribute"], *(text.number_html(one[name]) for name in ("ami", "p", "ari"))] for one in results["shared"]
        ],
        "columns": [f"on {place}" for place in range(1, len(own["members"]) + 1)],
        "effects": [effect_row(one) for one in effects["rows"]],
        "diagonal": diagonal_words(effects["diagonal"]),
        **conditional_words(results["conditional"]),
    }  # fmt: skip


def drawable(record: Mapping[str, Any]) -> bool:
    """Return whether the record has what the section draws, and the controls beside it: every null, random directions and splits."""
    results, controls = record["results"], record["controls"]
    return (
        all(name in results for name in NAMES)
        and all(controls.get(name) for name in ("nulls", "random", "splits"))
        and all(name in one for one in results["clusters"]["choice"]["spreads"] for name in NULLS)
    )


def spread_row(one: Mapping[str, Any]) -> list[str]:
    """Return one number of clusters as a row."""
    names = (
        f"{of}{figure}" for figure in ("stability", "silhouette") for of in ("", "null_", "shuffled_", "harmless_")
    )
    return [str(one["k"]), *(text.number_html(one[name]) for name in names), "yes" if one["beyond_all"] else "no"]


def effect_row(one: Mapping[str, Any]) -> list[str]:
    """Return one direction as a row."""
    cells = [text.number_html(cell) for cell in one["by_cluster"]]
    refused = text.rate_html(one["refused"]) if one["refused"] else ""
    return [one["name"], one["kind"], *cells, *(mean_words(one[name]) for name in ("ablated", "added")), refused]


def conditional_words(one: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arms as rows, and how a prompt's cluster is decided; empty for fewer than two clusters."""
    if one is None:
        return {"conditional": [], "decided": ""}
    rows = [
        [
            f"{arm['name']}: {arm['what']}", mean_words(arm["change"]), text.rate_html(arm["refused"]) if arm["refused"] else "",
            mean_words(arm["kl"]),
        ]
        for arm in one["arms"]
    ]  # fmt: skip
    unedited = text.rate_html(one["unedited_refused"]) if one["unedited_refused"] else ""
    rows += [
        ["the centroids of the other clusters, on average", mean_words(one["others"]), "", ""],
        ["nothing", "", unedited, ""],
    ]
    left = " and ".join(f"{count} {side}" for count, side in zip(one["left_out"], ("harmful", "harmless"), strict=True))
    return {
        "conditional": rows,
        "decided": f"Nearest is decided on the prompt alone, by {one['by']}; {left} prompts have no direction, and are left out.",
    }


def mean_words(one: Mapping[str, Any] | None) -> str:
    """Return a mean with its interval."""
    return "" if one is None else f"{text.number_html(one['mean'])} {text.interval(one['low'], one['high'])}"


def diagonal_words(one: Mapping[str, Any] | None) -> str:
    """Return D with its interval and its p-value."""
    if one is None:
        return "not measurable: held-out prompts fall into one cluster"
    return f"{text.number_html(one['value'])} {text.interval(one['low'], one['high'])}, p {text.number_html(one['p'])}"


def numbers(records: Gathered) -> dict[str, Any]:
    """Return what is drawn."""
    record = records.studies.get("clusters")
    if record is None or not drawable(record):
        return {"clusters": None}
    results = record["results"]
    return {
        "clusters": {
            "plane": results["plane"],
            "spreads": results["clusters"]["choice"]["spreads"],
            "shared": results["shared"],
            "rows": results["effects"]["rows"],
        }
    }


SECTION = Section("clusters", "Clusters", MARKUP, words, numbers)
