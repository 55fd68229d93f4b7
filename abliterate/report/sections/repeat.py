"""How the edit is made again: the command, and by what its parts are known."""

from __future__ import annotations

import shlex
from typing import Any

from abliterate.report.load import Gathered
from abliterate.report.sections.section import Section

MARKUP = """\
<section id="repeat"><h2>How to repeat it</h2>
<div class="command"><pre tabindex="0"><code id="command">{{ command }}</code></pre><button type="button" id="copy">Copy</button><span class="unseen" id="copied" role="status"></span></div>
<p>Or take the recipe and the direction that lie beside {% if adapter %}the adapter to <code>abliterate export</code>{% else %}the checkpoint to <code>abliterate apply</code>{% endif %}.</p>
<dl class="facts hashes">
<div><dt>abliterate</dt><dd>{{ version }}</dd></div>
{% for name, value in versions.items() %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}
<div><dt>seed</dt><dd>{{ seed }}</dd></div>
<div class="long"><dt>model</dt><dd>{{ source.model }}{% if source.revision %} at <code>{{ source.revision }}</code>{% endif %}</dd></div>
{% for name, value in source.files.items() %}<div class="long"><dt>{{ name }}</dt><dd><code>{{ value }}</code></dd></div>
{% endfor %}
{% for side, one in (prompts or {}).items() %}{% if one.digest %}<div class="long"><dt>{{ side }} prompts, {{ one.spec }}</dt><dd><code>{{ one.digest }}</code></dd></div>
{% endif %}{% endfor %}
</dl>
</section>"""


def words(records: Gathered) -> dict[str, Any] | None:
    """Return the command, versions, seed and hashes."""
    manifest = records.manifest
    return {
        "command": shlex.join(manifest["command"]),
        "version": manifest["abliterate"],
        "versions": manifest["versions"],
        "source": manifest["source"],
        "prompts": manifest["prompts"],
        "seed": manifest["seed"],
        "adapter": manifest.get("form") == "adapter",
    }


SECTION = Section("repeat", "Repeat", MARKUP, words)
