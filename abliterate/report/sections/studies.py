"""What the studies in a folder conclude: a line for each claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MARKUP = """\
<section id="studies"><h2>Studies</h2>
{% for one in studies %}
<p>{{ one.study }}: {{ one.words }}</p>
{{ table(one.study ~ ": claims, figures, controls and what follows.", ["claim", "figure", "control", "verdict"], one.rows) }}
{% if one.sentences %}<ul>{% for sentence in one.sentences %}<li>{{ sentence }}</li>{% endfor %}</ul>{% endif %}
{% for note in one.notes %}<p>{{ note }}</p>{% endfor %}
{% endfor %}
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the verdicts of each study; None where no study lies in the folder."""
    if not records.studies:
        return None
    return {
        "studies": [
            {
                "study": name,
                "words": asked(record),
                "rows": [[one[key] for key in ("claim", "figure", "control", "verdict")] for one in record["verdicts"]],
                "sentences": [one["sentence"] for one in record["verdicts"] if one["sentence"]],
                "notes": record["notes"],
            }
            for name, record in records.studies.items()
        ]
    }


def asked(record: Mapping[str, Any]) -> str:
    """Return what a study asked of which model, in a few words; settings that a record lacks are left out."""
    settings = record["settings"]
    parts = [record["model"]]
    for name in ("phrases", "forms"):
        one = settings.get(name)
        if isinstance(one, dict) and "spec" in one:
            parts.append(f"{name} {one['spec']}")
    return ", ".join([*parts, f"seed {record['seed']}"])


SECTION = Section("studies", "Studies", MARKUP, words)
