"""Names of files: each is another, and what quotes prompts is not among what is published."""

from __future__ import annotations

from pathlib import Path

from abliterate.hub.push import finished_files
from abliterate.pipeline.run import Result
from abliterate.storage import names
from abliterate.storage.names import LOCAL, MANIFEST, TEMPLATE


def test_each_name_stands_for_one_file() -> None:
    found = [value for value in vars(names).values() if isinstance(value, str) and "." in value and " " not in value]
    own = [value for value in found if Path(value).suffix in (".json", ".html", ".jinja", ".safetensors", ".md")]
    assert len(own) == len(set(own)) > 10
    assert all(Path(name).name == name for name in own)
    assert TEMPLATE != "chat_template.jinja"  # which is a name that models have for their own


def test_what_quotes_replies_stays_on_this_machine(result: Result) -> None:
    published = set(finished_files(result.out))
    assert not published & set(LOCAL)
    assert MANIFEST in published
    assert {"observations.json", "features.json"} <= set(LOCAL)
    assert (result.out / "observations.json").is_file()
