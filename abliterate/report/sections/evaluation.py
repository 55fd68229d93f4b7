"""What an evaluation measured: labels, tests prompt by prompt, divergence and quality, lengths, tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abliterate.evaluation.figure_names import LATE, with_unit
from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section
from abliterate.report.unlike import unlike

MARKUP = """\
<section id="evaluation"><h2>Evaluation</h2>
{% if unlike %}<p class="unlike"><strong>Made otherwise than the run</strong>, so that its figures are not those above: {{ unlike | join("; ") }}.</p>
{% endif %}<dl class="facts">
{% for name, value in evaluation.columns %}{% if value %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>{% endif %}{% endfor %}
{% for name, value in evaluation.settings %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>{% endfor %}
</dl>
{% for note in evaluation.notes %}<p>{{ note }}</p>
{% endfor %}
{% if evaluation.labels %}
<figure>{{ plot("plot-evaluation", "Share of replies with each label, by set of prompts and model, with intervals; the table below holds the same figures") }}
<figcaption>How each set of prompts was answered.</figcaption>{{ save("plot-evaluation") }}</figure>
{{ table("Replies by label.", ["prompts", "label"] + evaluation.columns | map(attribute=0) | list, evaluation.labels) }}
{% endif %}
{% if evaluation.paired %}
{{ table("Refusals, prompt by prompt.", ["prompts", "against to model"], evaluation.paired) }}
{% endif %}
{% if evaluation.late %}
{{ table("Replies that turn to safety only after token " ~ evaluation.late_after ~ ".", ["prompts"] + evaluation.columns | map(attribute=0) | list, evaluation.late) }}
{% endif %}
{% if evaluation.categories %}
{{ table("Refusals by category.", ["prompts", "category"] + evaluation.columns | map(attribute=0) | list, evaluation.categories) }}
{% endif %}
{% if evaluation.figures %}
{{ table("Divergence and quality.", ["figure"] + evaluation.columns | map(attribute=0) | list + ["difference"], evaluation.figures) }}
{% endif %}
{% if evaluation.lengths %}
<figure>{{ plot("plot-length", "Share of prompts refused by length of the reply, with intervals") }}
<figcaption>Share of prompts refused when only the first tokens of each reply are judged.</figcaption>{{ save("plot-length") }}</figure>
{% endif %}
{% if evaluation.tasks %}
{{ table("Tasks.", ["task", "metric"] + evaluation.columns | map(attribute=0) | list, evaluation.tasks) }}
{% endif %}
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the tables, and in what it was made otherwise than the run; None where nothing was evaluated."""
    manifest, evaluation = records.manifest, records.evaluation
    if not evaluation:
        return None
    return {"evaluation": evaluation_section(evaluation), "unlike": unlike(manifest, evaluation["settings"])}


def numbers(records: Gathered) -> dict[str, Any]:
    """Return the rates of each label, and refusals by the length of the reply."""
    evaluation = records.evaluation
    return {
        "evaluation": evaluation and {key: evaluation[key] for key in ("model", "against", "sets")},
        "by_length": (evaluation or {}).get("by_length"),
    }


def evaluation_section(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of an evaluation."""
    columns = ["model"] if evaluation["against"] is None else ["against", "model"]
    labels = [
        (name, label, *(text.estimate_html((one.get(column) or {}).get(label)) for column in columns))
        for name, one in evaluation["sets"].items()
        for label in ("refused", "complied", "hedged", "incoherent")
    ]
    return {
        "columns": [(column, evaluation[column]) for column in columns],
        "settings": settings_section(evaluation["settings"]),
        "notes": evaluation.get("notes") or [],
        "labels": labels,
        "late_after": LATE,
        "late": [
            (name, *(text.estimate_html(one.get(column)) for column in columns))
            for name, one in (evaluation.get("late_refusals") or {}).items()
        ],
        "categories": [
            (name, category, *(text.estimate_html(rates.get(column)) for column in columns))
            for name, one in evaluation["sets"].items()
            for category, rates in (one.get("by_category") or {}).items()
        ],
        "paired": [(name, paired_line(one["paired"])) for name, one in evaluation["sets"].items() if one.get("paired")],
        "figures": [figure_cells(name, one, columns) for name, one in evaluation["figures"].items()],
        "lengths": evaluation.get("by_length"),
        "tasks": [
            (task, metric, *(text.estimate_html(one.get(column)) for column in columns))
            for task, metrics in (evaluation.get("tasks") or {}).items()
            for metric, one in metrics.items()
        ],
    }


def settings_section(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how an evaluation was made, by name; what was not asked for is left out."""
    rows = []
    for name, value in given.items():
        if value in (None, False) or value == []:
            continue
        if name == "prompts" and isinstance(value, dict):
            rows += [
                (f"{kind} prompts", f"{one['spec']}, {one['count']}")
                for kind, one in value.items()
                if isinstance(one, dict) and {"spec", "count"} <= one.keys()
            ]
            continue
        if name == "conditions" and isinstance(value, dict):
            rows += [(f"{kind.replace('_', ' ')} from", str(origin)) for kind, origin in value.items()]
            continue
        if name == "chat_template" and isinstance(value, dict):
            value = value.get("file")
        shown = ", ".join(map(str, value)) if isinstance(value, list) else "yes" if value is True else str(value)
        rows.append((name.replace("_", " "), shown))
    return rows


def paired_line(paired: Mapping[str, Any]) -> str:
    """Return a paired comparison in words."""
    return f"refusals: {paired['gained']} gained, {paired['lost']} lost; p{text.TIED}={text.TIED}{text.number_html(paired['p'])} ({paired['test']})"


def figure_cells(name: str, one: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    """Return a figure with its unit: name, each model's value, the difference."""
    unit = one.get("unit") or ""
    percent = unit == "share"

    def shown(value: Mapping[str, Any] | None) -> str:
        if value is not None and percent and "mean" in value:
            return f"{text.share_html(value['mean'])} {text.interval(value['low'], value['high'], True)}"
        return text.estimate_html(value)

    change, words_of_change = one.get("difference"), text.MISSING
    if change:
        value = text.share_html(change["value"]) if percent else text.number_html(change["value"])
        words_of_change = f"{value} {text.interval(change['low'], change['high'], percent)}"
        if change["p"] is not None:
            words_of_change += f"; p{text.TIED}={text.TIED}{text.number_html(change['p'])}"
        if change.get("test"):
            words_of_change += f" ({change['test']})"
    return with_unit(name, unit), *(shown(one.get(column)) for column in columns), words_of_change


SECTION = Section("evaluation", "Evaluation", MARKUP, words, numbers)
