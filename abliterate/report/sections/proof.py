"""What was proved of the files: the stream at each layer, every edited tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MARKUP = """\
<section id="proof"><h2>Proof</h2>
<p>After writing, the saved files were opened again. {% if adapter %}The adapter was put on the original.{% else %}{{ proof.tensors }} tensors are edited as planned; all others are equal bit for bit.{% endif %} On the residual stream of the edited model: {{ proof.line }}. <strong>{{ "The proof holds." if proof.holds else "The proof does not hold." }}</strong></p>
{% if left_alone %}<p>Left alone: {{ left_alone | join(", ") }}.</p>{% endif %}
<figure>{{ plot("plot-proof", "The proof's figure at each layer, against what rounding allows") }}
<figcaption>{{ "Component along the direction, relative to the residual stream" if proof.kind == "silence" else "Difference from the hook form, relative to the residual stream" }}, by layer; the dashed line is what rounding allows.</figcaption>{{ save("plot-proof") }}</figure>
{% if not adapter %}
<details id="tensors"><summary>Every edited tensor ({{ proof.tensors }})</summary>
<form role="search" aria-label="Tensors"><label class="find"><span>Search names</span><input type="search" name="find" autocomplete="off" spellcheck="false"></label></form>
<p class="count" role="status"></p>
<div class="wide" tabindex="0" role="region" aria-label="Edited tensors"><table>
<caption>Norm of each edited tensor, and of its component along the direction, before and after.</caption>
<thead><tr><th scope="col">tensor</th><th scope="col">norm before</th><th scope="col">after</th><th scope="col">component before</th><th scope="col">after</th></tr></thead>
<tbody></tbody></table></div>
<button type="button" class="more">Show more</button>
</details>
{% endif %}
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the proof in a sentence, and what it is about."""
    manifest = records.manifest
    return {
        "proof": {**manifest["proof"], "line": proof_line(manifest["proof"]), "tensors": len(manifest["tensors"])},
        "left_alone": manifest["left_alone"],
        "adapter": manifest.get("form") == "adapter",
    }


def numbers(records: Gathered) -> dict[str, Any]:
    """Return the proof's figures by layer, and every edited tensor."""
    return {"proof": records.manifest["proof"], "tensors": records.manifest["tensors"]}


def proof_line(proof: Mapping[str, Any]) -> str:
    """Return what the proof found on the residual stream, in one sentence."""
    found, allowed = text.number_html(proof["largest"]), text.number_html(proof["limit"])
    if proof["kind"] == "silence":
        before = f", {text.number_html(proof['before'])} before" if proof["before"] is not None else ""
        return f"along the direction at most {found} of the residual stream at any layer{before}; {allowed} allowed"
    return f"at most {found} of the residual stream away from the hook form at any layer; {allowed} allowed"


SECTION = Section("proof", "Proof", MARKUP, words, numbers)
