"""Activations of both kinds of prompts along their principal components."""

from __future__ import annotations

from typing import Any

from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MARKUP = """\
<section id="activations"><h2>Activations</h2>
<p>The residual stream at the chosen position on each prompt, along its first two principal components.</p>
<div class="slider"><label for="layer">Layer</label><input type="range" id="layer" min="0" step="1" value="0"><output id="layer-value" for="layer"></output><button type="button" id="layer-chosen">Chosen layer</button></div>
<figure>{{ plot("plot-pca", "Activations of harmful and harmless prompts along two principal components of the layer that the slider chooses") }}
<figcaption>Harmful and harmless prompts; point at one to read it.</figcaption>{{ save("plot-pca") }}</figure>
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return nothing to fill in, or None where nothing was observed."""
    observed = records.observations
    return {} if observed and observed["pca"]["layers"] else None


def numbers(records: Gathered) -> dict[str, Any]:
    """Return the components of each prompt at each layer."""
    return {"pca": records.observations and records.observations["pca"]}


SECTION = Section("activations", "Activations", MARKUP, words, numbers)
