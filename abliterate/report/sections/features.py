"""What rows mean in words, how an SAE describes its layer, what steering by features does: whichever of them lies there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MOST = 500
"""Rows of the table."""

MARKUP = """\
<section id="features"><h2>Features</h2>
{% if rows %}
<p>{{ told }}</p>
<form role="search" aria-label="Features" id="feature-find"><label class="find"><span>Search words, tokens and prompts</span><input type="search" autocomplete="off" spellcheck="false"></label><output class="count"></output></form>
<div id="feature-rows">{{ table("Rows by how well they part refused from answered prompts (AUROC at the last token before the reply).", ["row"] + named + ["words", "nearest words", "top tokens", "fires", "words tell it", "refused AUROC", "strongest in"], rows) }}</div>
{% endif %}
{% if changed %}{{ table("Rows whose activity the edit changed most: mean over texts of the greatest value.", ["row", "words", "before", "after", "difference", "p, Holm"], changed) }}{% endif %}
{% if tested %}{{ table("Do words tell where a row fires? AUROC on held-out texts.", ["list", "AUROC"], tested) }}{% endif %}
{% if quality %}{{ table("The SAE on prompts that were held out.", ["figure", "value"], quality) }}{% endif %}
{% if columns %}
<p>{{ told }}</p>
{{ table("Replies under each steering, report part: safe replies to attacks, refusals of normal queries.", ["", "strength"] + groups + ["all attacks", "normal", "fall apart", "KL"], columns) }}
{% if opens %}{{ table("Texts for which the gate opens, and harmless phrases in the same form.", ["texts", "gate open", "harmless match"], opens) }}{% endif %}
{% if curves %}
<p>Strengths that were tried on the select part: safe replies to complete attacks, refusals of normal queries, replies that fall apart.</p>
<p><label for="steering-kind">Steering</label> <select id="steering-kind">{% for one in curves %}<option value="{{ loop.index0 }}">{{ one }}</option>{% endfor %}</select></p>
<figure>{{ plot("plot-steering", "Share of safe replies, of refused normal queries and of broken replies by strength of the chosen steering; the record holds the figures") }}
<figcaption>Shares by strength, with 95% intervals.</figcaption>{{ save("plot-steering") }}</figure>
{% endif %}
{% endif %}
</section>"""

NEEDED = {
    "explain": ("rows", "tested"),
    "train": ("quality",),
    "steer": ("columns", "groups", "gate", "choice", "strengths"),
}
"""What a record of each kind must hold to be drawn."""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the tables of the kind of study that is there; None where there is none, or it lacks its controls."""
    record = drawable(records)
    if record is None:
        return None
    results = record["results"]
    shown: dict[str, Any] = {
        "rows": [],
        "named": [],
        "tested": [],
        "quality": [],
        "columns": [],
        "groups": [],
        "opens": [],
        "curves": [],
        "told": "",
        "changed": [],
    }
    if results["kind"] == "explain":
        return {**shown, **explained(record)}
    if results["kind"] == "train":
        return {**shown, "quality": quality(results["quality"])}
    return {**shown, **steered(record)}


def drawable(records: Gathered) -> Mapping[str, Any] | None:
    """Return the record of features, None where it cannot be drawn."""
    record = records.studies.get("features")
    if record is None:
        return None
    results = record["results"]
    needed = NEEDED.get(results.get("kind", ""), ("",))
    if not all(name in results for name in needed) or (
        results["kind"] == "steer" and not record["controls"].get("random")
    ):
        return None
    return record


def explained(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows and the test of their words."""
    results, settings = record["results"], record["settings"]
    rows = results["rows"]
    more = f", {MOST} of which are shown" if len(rows) > MOST else ""
    told = f"{len(rows)} rows of {settings['rows']} compete for {settings['vocabulary']} words{more}."
    tested = results["tested"]
    lists = (
        []
        if tested is None
        else [[name, text.mean_html(one)] for name, one in tested["scores"].items() if one["count"]]
    )
    changed = [changed_row(one) for one in results.get("changed", [])]
    named = ["name"] if "named_by" in settings else []
    told += f" Names are of {settings['named_by']}, and are not tested." if named else ""
    shown = [row_of(one) for one in rows[:MOST]]
    return {"told": told, "named": named, "rows": shown, "tested": lists, "changed": changed}


def row_of(one: Mapping[str, Any]) -> list[str]:
    """Return one row of the table."""
    return [
        one["row"], *([one["name"]] if "name" in one else []), ", ".join(one["words"]), ", ".join(one["nearest"][:5]), " ".join(one["tokens"]),
        text.MISSING if one["rate"] is None else text.share_html(one["rate"]), text.number_html(one["word_auroc"]),
        text.number_html(one["refused_auroc"].get("prompt_end")), "; ".join(one["texts"]),
    ]  # fmt: skip


def changed_row(one: Mapping[str, Any]) -> list[str]:
    """Return one row that an edit changed."""
    values = [text.number_html(one[name]) for name in ("before", "after")]
    difference = f"{text.number_html(one['difference'])} {text.interval(one['low'], one['high'])}"
    return [one["row"], ", ".join(one["words"]), *values, difference, text.number_html(one["p"])]


def quality(one: Mapping[str, Any]) -> list[list[str]]:
    """Return the figures of an SAE."""
    loss = one["loss"]
    return [
        ["variance left over", text.number_html(one["fvu"])],
        ["by as many principal components", text.number_html(one["fvu_pca"])],
        ["features active at a token", text.number_html(one["active"])],
        ["features that fire at all", text.share_html(one["alive"])],
        *[[f"cross-entropy: {name}", text.mean_html(loss[name])] for name in ("model", "described", "mean")],
        [
            "of what the mean costs, kept",
            text.MISSING if one["recovered"] is None else text.share_html(one["recovered"]),
        ],
    ]


def steered(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of steerings."""
    results = record["results"]
    groups = [one["name"] for one in results["groups"]]
    choice, gate = results["choice"], results["gate"]
    told = (
        f"Rows chosen {choice['how']}: {', '.join(choice['chosen'])}; by words and by data have {choice['overlap']} in common. "
        f"The gate parts attacks from normal queries with an AUROC of {text.number_html(gate['auroc'])}."
    )
    columns = [column_of(one, groups) for one in (*results["columns"], *record["controls"]["random"])]
    opens = [opened(one) for one in results["groups"] if "opens" in one]
    named = [name_of(one) for one in curves(results)]
    return {"told": told, "groups": groups, "columns": columns, "opens": opens, "curves": named}


def opened(group: Mapping[str, Any]) -> list[str]:
    """Return for how many texts of a group the gate opens, and of its harmless match where it has one."""
    rates = (group["opens"], group.get("match_opens"))
    return [group["name"], *(text.rate_html(one) if one and one["total"] else text.MISSING for one in rates)]


def column_of(one: Mapping[str, Any], groups: list[str]) -> list[str]:
    """Return one steering as a row."""
    rates = [text.rate_html(one["safe"][name]) if name in one["safe"] else text.MISSING for name in groups]
    sides = [
        text.rate_html(one[name]) if one[name]["total"] else text.MISSING for name in ("attacks", "normal", "broken")
    ]
    kl = text.MISSING if one["kl"] is None else text.mean_html(one["kl"])
    return [name_of(one), text.number_html(one["strength"]), *rates, *sides, kl]


def name_of(one: Mapping[str, Any]) -> str:
    """Return a steering's name."""
    return f"{one['name']}{', gated' if one['gated'] else ''}"


def curves(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the steerings of which more than one strength was tried."""
    return [one for one in results["strengths"] if len(one["tried"]) > 1]


def numbers(records: Gathered) -> dict[str, Any]:
    """Return the curves of strengths."""
    record = drawable(records)
    if record is None or record["results"]["kind"] != "steer":
        return {"features": None}
    return {
        "features": {"curves": [{"name": name_of(one), "tried": one["tried"]} for one in curves(record["results"])]}
    }


SECTION = Section("features", "Features", MARKUP, words, numbers)
