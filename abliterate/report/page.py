"""Writes the page: one file that asks nothing of any network and runs only the two scripts it was written with.

A model's reply is hostile input. It travels as JSON in which nothing can end the script element, is put into the page
as text and never as markup, and the page's policy allows no script but those whose hashes it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from abliterate.errors import InputError
from abliterate.report.load import Gathered, gather
from abliterate.report.sections import SECTIONS, STUDY_SECTIONS
from abliterate.report.sections.headline import headline
from abliterate.storage.atomic import write_text_whole
from abliterate.storage.names import PAGE

ESCAPED = str.maketrans({one: f"\\u{ord(one):04x}" for one in "<>&"})


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report about the checkpoint or the studies in `folder` to `out`, `report.html` beside it by default; return its path.

    Raises InputError when abliterate did not write the folder, a record in it is malformed, or the page cannot be
    written.
    """
    target = folder / PAGE if out is None else out
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{target}: the report is a web page; give it a name that ends in .html")
    write_text_whole(target, render(gather(folder)))
    return target


def render(records: Gathered) -> str:
    """Return the page: each section's template filled with its words, and the numbers of all for the script."""
    plotly, script = plotly_script(), asset("plots.js") + asset("page.js")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sections = SECTIONS if records.manifest else STUDY_SECTIONS
    filled = [(one, one.words(records)) for one in sections]
    shown = [(one, words) for one, words in filled if words is not None]
    macros = asset("macros.html.jinja")
    data: dict[str, Any] = {"model": records.model}
    for one in sections:
        data |= one.numbers(records)
    return environment.from_string(asset("page.html.jinja")).render(
        **headline(records),
        contents=[(one.name, one.title) for one, _ in shown],
        sections=Markup("\n").join(
            Markup(environment.from_string(macros + one.markup).render(words)) for one, words in shown
        ),
        policy=policy(plotly, script),
        style=Markup(asset("page.css")),
        plotly=Markup(plotly),
        script=Markup(script),
        data=Markup(as_json(data)),
    )


def policy(*scripts: str) -> str:
    """Return the content security policy: nothing from anywhere, only these scripts.

    plotly adds style rules and attributes while it draws, so that styles cannot be held to hashes; they can load
    nothing either. Its heat maps are images made on the spot, and saving a figure makes a blob.
    """
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def as_json(data: object) -> str:
    """Return JSON that is safe inside a script element: ASCII only, and no character that means something to HTML."""
    return json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(ESCAPED)


def asset(name: str) -> str:
    """Return one of the files beside this one, with the line ends that a browser will hash."""
    return (files("abliterate.report") / "assets" / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def plotly_script() -> str:
    """Return the library that draws: plotly.js 4.1.1 as npm's plotly.js-cartesian-dist-min has it (MIT).

    It draws points, bars and heat maps, which is all that the page asks for, in 1.5 MB; the whole library takes 4.8.
    """
    return asset("plotly-cartesian.min.js")
