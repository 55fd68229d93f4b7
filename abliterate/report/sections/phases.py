"""When replies turn to safety: what becomes of prompts, each reply as a bar of its phases, when safety begins, what vectors do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MARKUP = """\
<section id="phases"><h2>Phases</h2>
<p>A reply is a succession of phases: safety (declines, moralises, sends the user elsewhere), content (goes on with what was asked, however evasively) or neither. Greedy replies to harmful phrases; harmless ones in the same forms stand beside.</p>
{% for one in outcomes %}{{ table(one.title, one.head, one.rows) }}{% endfor %}
<p>Each reply as a bar over its tokens, coloured by phase{% if paired %}; the upper of two bars is before the edit, the lower after it{% endif %}. A reply that goes round in circles ends where it begins to.</p>
<p><label for="phases-form">Form</label> <select id="phases-form">{% for form in forms %}<option value="{{ loop.index0 }}">{{ form }}</option>{% endfor %}</select>
<label for="phases-outcome">Outcome</label> <select id="phases-outcome"><option value="0">all</option>{% for name in names %}<option value="{{ loop.index }}">{{ name }}</option>{% endfor %}</select></p>
<figure>{{ plot("plot-phases", "Phases of each reply to the chosen form; the tables above hold how many there are of each outcome") }}
<figcaption>Phases of replies, token by token.</figcaption>{{ save("plot-phases") }}</figure>
<p>When safety begins: the share of replies that have not yet entered it, by token (Kaplan and Meier; replies that end are censored).</p>
<figure>{{ plot("plot-onset", "Share of replies of each form that have not yet entered safety, by reply token") }}
<figcaption>Onset of safety by form{% if paired %}; dotted lines are before the edit{% endif %}.</figcaption>{{ save("plot-onset") }}</figure>
{% if effects %}
{{ table("Adding (A1, A2) and removing (R1, R2) safety vectors, phrases of the report part.", ["what", "vector", "alpha", "brought about", "fell apart", "best random vector"], effects) }}
{% endif %}
</section>"""

MOST_SAID = 400
"""Characters of a phase that are shown; the page holds hundreds of them."""

NEEDED = ("outcomes", "harmless", "onset", "bars")


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the tables; None where the study is not there, or lacks its controls."""
    record = records.studies.get("phases")
    if record is None or not drawable(record):
        return None
    results = record["results"]
    return {
        "outcomes": list(outcome_tables(results)),
        "paired": "before" in results,
        "forms": list(results["bars"]),
        "names": outcome_names(results),
        "effects": list(effect_rows(results.get("effects"), record["controls"])),
    }


def drawable(record: Mapping[str, Any]) -> bool:
    """Return whether the record has what the section draws, and the harmless phrases and random vectors beside it."""
    return all(record["results"].get(name) for name in NEEDED) and "random vectors" in record["controls"]


def outcome_tables(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a table for complete and one for begun prompts, where there are any: a row for each form, side and model."""
    sides = [("harmful", results["outcomes"]), ("harmless", results["harmless"])]
    if "before" in results:
        sides = [("harmful, before", results["before"]["outcomes"]), ("harmful, after", results["outcomes"]), sides[1]]
    found = []
    for sentence, title in (("complete", "Complete prompts."), ("incomplete", "Begun sentences.")):
        rows = [(name, one) for name, side in sides for one in side if one["sentence"] == sentence]
        if rows:
            kinds = list(rows[0][1]["table"])
            cells = [[one["form"], name, *(text.rate_html(one["table"][kind]) for kind in kinds)] for name, one in rows]
            found.append(
                {"title": title, "head": ["form", "phrases", *kinds], "rows": sorted(cells, key=by_form(cells))}
            )
    return found


def by_form(rows: Sequence[Sequence[str]]) -> Any:
    """Return the key that puts rows of one form beside each other, in the order in which forms first appear."""
    order = list(dict.fromkeys(row[0] for row in rows))
    return lambda row: order.index(row[0])


def outcome_names(results: Mapping[str, Any]) -> list[str]:
    """Return the outcomes that replies have, in the order of their tables."""
    known = list(dict.fromkeys(kind for one in results["outcomes"] for kind in one["table"]))
    there = {bar["outcome"] for bars in results["bars"].values() for bar in bars}
    return [name for name in known if name in there]


def effect_rows(effects: Mapping[str, Any] | None, controls: Mapping[str, Any]) -> list[list[str]]:
    """Return what each vector does on the report part beside the best random vector at its strength."""
    if not effects:
        return []
    rows = []
    for one in effects["rows"]:
        if one["part"] != "report":
            continue
        random = [
            other["brought"]
            for other in controls["random vectors"]
            if (other["kind"], other["alpha"]) == (one["kind"], one["alpha"])
        ]
        best = max(random, key=lambda rate: rate["rate"], default=None)
        rows.append(
            [
                f"{one['kind']}: {effects['what'][one['kind']]}", one["vector"], text.number_html(one["alpha"]),
                text.rate_html(one["brought"]), text.rate_html(one["incoherent"]),
                text.MISSING if best is None else text.rate_html(best),
            ]
        )  # fmt: skip
    return rows


def numbers(records: Gathered) -> dict[str, Any]:
    """Return what is drawn."""
    record = records.studies.get("phases")
    if record is None or not drawable(record):
        return {"phases": None}
    results = record["results"]
    before = results.get("before") or {}
    replies = records.study_replies.get("phases", ())
    return {
        "phases": {
            "names": outcome_names(results),
            "forms": [
                {
                    "form": form,
                    "bars": with_words(bars, [one for one in replies if is_of(one, form, "after" if before else None)]),
                    "before": with_words(
                        before.get("bars", {}).get(form), [one for one in replies if is_of(one, form, "before")]
                    ),
                    "curve": curve_of(results, form),
                    "curve_before": curve_of(before, form),
                }
                for form, bars in results["bars"].items()
            ],
        }
    }


def is_of(reply: Mapping[str, Any], form: str, when: str | None) -> bool:
    """Return whether a reply is one to the harmful phrases in a form, before or after an edit where there is one."""
    return (reply["form"], reply["side"], reply["when"]) == (form, "harmful", when)


def with_words(bars: Any, replies: Sequence[Mapping[str, Any]]) -> Any:
    """Return bars with what each phase says, where the replies are at hand: one for each bar, in their order."""
    if not bars or len(bars) != len(replies):
        return bars
    return [
        {**bar, "phrase": reply["phrase"], "said": [words_of(reply, begin, end) for _, begin, end in bar["phases"]]}
        for bar, reply in zip(bars, replies, strict=True)
    ]


def words_of(reply: Mapping[str, Any], begin: int, end: int) -> str:
    """Return what a reply says from one token to another, whole segments of it."""
    return " ".join(one["text"] for one in reply["segments"] or () if begin <= one["begin"] < end)[:MOST_SAID]


def curve_of(turns: Mapping[str, Any], form: str) -> Any:
    """Return the curve of a form; None where none of its replies says anything, or nothing was asked before."""
    one = turns.get("onset", {}).get(form)
    return one["curve"] if one and one["replies"] else None


SECTION = Section("phases", "Phases", MARKUP, words, numbers)
