"""Where refusal is represented: from where each form is refused, how alike its vectors are, what adding them does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MARKUP = """\
<section id="positions"><h2>Positions</h2>
<p>A reply refuses from location 1 (at once), 2 (after its first sentence), 3 (after its second), or never. A vector is the mean state at a location of prompts that are refused from there minus that of prompts that are answered.</p>
<figure>{{ plot("plot-starts", "Share of harmful prompts of each form that are refused from each location; the table below holds the same figures") }}
<figcaption>From where harmful prompts of each form are refused.</figcaption>{{ save("plot-starts") }}</figure>
{{ table("From where harmful prompts are refused, greedy replies.", ["form", "where", "sentence", "from 1", "from 2", "from 3", "never", "harmless, anywhere"], starts) }}
{{ table("Vectors, and what each is made of.", ["vector", "first side", "second side", "prompts", ""], cells) }}
{% if similar %}
<p>Cosines between the vectors, each between its floor (shuffled labels) and its ceiling (what noise leaves of 1); point at a cell to read them. Like vectors stand together.</p>
<div class="slider"><label for="similarity-layer">Layer</label><input type="range" id="similarity-layer" min="0" step="1" value="0"><output id="similarity-layer-value" for="similarity-layer"></output></div>
<figure>{{ plot("plot-similarity", "Cosines between the vectors of all forms and locations at the layer that the slider chooses") }}
<figcaption>Cosines between vectors. The tree on the right joins them by average linkage, at one minus the mean cosine.</figcaption>{{ save("plot-similarity") }}</figure>
{% endif %}
{% if sweeps %}
<p>Each vector added at its layer alpha times its own length: the change of the log-odds that a reply opens as a refusal, with 95% intervals.</p>
<p><label for="sweep-vector">Vector</label> <select id="sweep-vector">{% for one in sweeps %}<option value="{{ loop.index0 }}">{{ one[0] }}</option>{% endfor %}</select></p>
<figure>{{ plot("plot-alpha", "Effect of adding the chosen vector on each form, against alpha; the table below holds the verdicts") }}
<figcaption>Effect by alpha: the vector's own form is the thick line, grey lines are random vectors of the same length.</figcaption>{{ save("plot-alpha") }}</figure>
<figure>{{ plot("plot-effects", "Effect of each vector on each form: half the difference of adding it and taking it away; the table below holds the verdicts") }}
<figcaption>Effect of each vector on each form: half the difference between adding it once and taking it away once, in log-odds of a refusal.</figcaption>{{ save("plot-effects") }}</figure>
{{ table("What each vector does on each form.", ["vector", "layer", "length", "alpha up to"] + forms + ["over all"], sweeps) }}
{% endif %}
{% if edits %}
<p>Each vector taken out of all that the model writes: of the harmful prompts that the model refuses, how many are refused still, and how far the first token of harmless replies moves.{% if best %} Chosen on prompts of another part: {{ best }}.{% endif %}</p>
{{ table("Edits by place, phrases of the report part, with random vectors.", ["edited along", "layer"] + edited + ["all forms", "fell apart", "KL, harmless", "KL, harmless, other forms"], edits) }}
{% endif %}
{% if components %}
<p>The component along a vector, token by token, of harmful phrases and the harmless ones that match them, without the mean of harmless states at the same place.</p>
<p><label for="component-vector">Vector</label> <select id="component-vector">{% for one in components %}<option value="{{ loop.index0 }}">{{ one[0] }}</option>{% endfor %}</select></p>
<figure>{{ plot("plot-components", "Mean component of harmful and of harmless prompts at places of the prompt") }}
<figcaption>Component by place, mean and 95% interval.</figcaption>{{ save("plot-components") }}</figure>
{{ table("Harmful against harmless prompts at their end.", ["vector", "layer", "AUROC", "harmless above the threshold", "highest harmless phrases"], components) }}
{% endif %}
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the tables; None where the study is not there, or lacks its controls."""
    record = records.studies.get("positions")
    if record is None or not drawable(record):
        return None
    results = record["results"]
    sweeps = results["sweeps"]
    forms = [one["form"] for one in results["starts"]]
    return {
        "starts": [starts_row(one) for one in results["starts"]],
        "cells": [cell_row(one) for one in results["cells"]],
        "similar": bool(results["similarity"]),
        "forms": forms,
        "sweeps": [
            [
                one["vector"], one["layer"], text.number_html(one["length"]), text.number_html(one["coherent_up_to"]),
                *(one["verdicts"].get(form, text.MISSING) for form in forms), "robust" if one["robust"] else "not robust",
            ]
            for one in sweeps
        ],
        "components": [component_row(one) for one in results["components"]],
        **edit_words(results.get("edits"), record["controls"].get("edits")),
    }  # fmt: skip


def edit_words(edits: Mapping[str, Any] | None, random: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Return the table of edits by place; nothing where there are none, or no random ones beside them."""
    if not edits or not random:
        return {"edits": [], "edited": [], "best": None}
    forms = list(edits["rows"][0]["forms"])
    rows = [
        [
            one["vector"], text.MISSING if one["layer"] is None else str(one["layer"]),
            *(text.rate_html(one["forms"][form]) for form in forms), text.rate_html(one["left"]),
            str(one["incoherent"]), text.mean_html(one["kl"]), text.mean_html(one["kl_elsewhere"]),
        ]
        for one in (*edits["rows"], *random)
    ]  # fmt: skip
    return {"edits": rows, "edited": forms, "best": edits["best"]}


def drawable(record: Mapping[str, Any]) -> bool:
    """Return whether the record has what the section draws: results of every step, and controls beside every sweep."""
    results, controls = record["results"], record["controls"]
    names = ("starts", "cells", "similarity", "sweeps", "components")
    return all(name in results for name in names) and all(one["vector"] in controls for one in results["sweeps"])


def starts_row(one: Mapping[str, Any]) -> list[str]:
    """Return one form as a row."""
    rates = [text.rate_html(one["starts"][name]) for name in ("1", "2", "3", "never")]
    return [one["form"], one["where"], one["sentence"], *rates, text.rate_html(one["harmless"])]


def cell_row(one: Mapping[str, Any]) -> list[str]:
    """Return one vector as a row."""
    sides = ("refused", "answered") if one["kind"] == "refused" else ("harmful", "harmless")
    made = [f"{text.number_html(one[name])} {side}" for name, side in zip(("first", "second"), sides, strict=True)]
    return [one["vector"], *made, str(one["prompts"]), one["empty"] or ""]


def component_row(one: Mapping[str, Any]) -> list[str]:
    """Return the components of one vector as a row."""
    found = one["auroc"]
    highest = "; ".join(named["phrase"] for named in one["highest"][:5])
    auroc = f"{text.number_html(found['value'])} {text.interval(found['low'], found['high'])}"
    return [one["vector"], str(one["layer"]), auroc, text.rate_html(one["harmless_above"]), highest]


def numbers(records: Gathered) -> dict[str, Any]:
    """Return what is drawn."""
    record = records.studies.get("positions")
    if record is None or not drawable(record):
        return {"positions": None}
    results = record["results"]
    return {
        "positions": {
            "starts": results["starts"],
            "layer": record["settings"].get("layer"),
            "similarity": [similarity_numbers(int(layer), one) for layer, one in results["similarity"].items()],
            "sweeps": [
                {**one, "random": record["controls"][one["vector"]].get("random", [])} for one in results["sweeps"]
            ],
            "components": results["components"],
        }
    }


def similarity_numbers(layer: int, one: Mapping[str, Any]) -> dict[str, Any]:
    """Return one layer's cosines in the order in which like vectors stand together."""
    pairs = {frozenset((pair["first"], pair["second"])): pair for pair in one["pairs"]}
    names = [one["names"][place] for place in one["order"]]
    grid = [[pairs.get(frozenset((row, column))) for column in names] for row in names]
    return {"layer": layer, "names": names, "pairs": grid, "tree": brackets(one)}


def brackets(one: Mapping[str, Any]) -> list[list[list[float]]]:
    """Return the dendrogram as brackets of four points `[distance, row]`; nothing of a record that does not know the joins."""
    rows = {place: float(row) for row, place in enumerate(one["order"])}
    at = {place: (0.0, row) for place, row in rows.items()}
    found = []
    for number, (first, second, height) in enumerate(one.get("joins", ())):
        (near, up), (far, down) = at[first], at[second]
        found.append([[near, up], [height, up], [height, down], [far, down]])
        at[len(one["names"]) + number] = height, (up + down) / 2
    return found


SECTION = Section("positions", "Positions", MARKUP, words, numbers)
