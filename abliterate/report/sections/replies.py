"""The replies of both models side by side, to be searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abliterate.report.load import Gathered
from abliterate.report.sections.section import MODELS, Section

MARKUP = """\
<section id="replies"><h2>Replies</h2>
{% for one in explorers %}
<div class="explorer" id="explorer-{{ one.id }}" data-explorer="{{ loop.index0 }}">
{% if explorers | length > 1 %}<h3>{{ one.title }}</h3>{% endif %}
<form role="search" aria-label="Replies, {{ one.title | lower }}">
<label class="find"><span>Search prompts and replies</span><input type="search" name="find" autocomplete="off" spellcheck="false"></label>
<label><span>Prompts</span><select name="side"><option value="">all</option></select></label>
{% for column in one.columns %}<label><span>{{ column }}</span><select name="verdict-{{ loop.index0 }}" class="verdict"><option value="">any</option></select></label>
{% endfor %}
{% if one.columns | length > 1 %}<label><span>Change</span><select name="change"><option value="">any</option><option value="verdict">refusal changed</option><option value="text">words changed</option><option value="none">nothing changed</option></select></label>{% endif %}
<button type="reset">Clear</button>
</form>
<p class="count" role="status"></p>
<ol class="pairs"></ol>
<button type="button" class="more">Show more</button>
</div>
{% endfor %}
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the lists that there are, without what is in them; None without any."""
    found = [{key: one[key] for key in ("id", "title", "columns")} for one in explorers(records)]
    return {"explorers": found} if found else None


def numbers(records: Gathered) -> dict[str, Any]:
    """Return the lists of replies."""
    return {"explorers": explorers(records)}


def explorers(records: Gathered) -> list[dict[str, Any]]:
    """Return the lists of replies side by side: the run's own, and the evaluation's."""
    shown = []
    if records.observations:
        replies = records.observations["replies"]
        shown.append(
            {"id": "run", "title": "In the run", "columns": list(MODELS), "pairs": pairs([replies[m] for m in MODELS])}
        )
    if records.evaluation:
        replies = records.evaluation["replies"]
        columns = ["against", "model"] if replies.get("against") else ["model"]
        names = [records.evaluation[column] or column for column in columns]
        listed = pairs([replies[column] for column in columns])
        shown.append({"id": "evaluation", "title": "In the evaluation", "columns": names, "pairs": listed})
    return shown


def pairs(models: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """Return each prompt with its side and the reply of each model."""
    return [
        {
            "side": side,
            "prompt": replies[0]["prompt"],
            "replies": [
                {"text": one["reply"], "refused": one["refused"], "label": one.get("label")} for one in replies
            ],
        }
        for side in models[0]
        for replies in zip(*(model.get(side, []) for model in models), strict=True)
    ]


SECTION = Section("replies", "Replies", MARKUP, words, numbers)
