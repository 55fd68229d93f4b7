"""`observations.json`, from which the report page is made: prompts, replies and numbers of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given

from abliterate.report import page
from abliterate.report.load import gather
from abliterate.storage.names import MANIFEST, OBSERVATIONS
from fixtures import report_records
from fixtures.mutations import fuzz, mutated_json, outcome, scratch
from fixtures.report_records import manifest, observations, quick_pages

with pytest.MonkeyPatch.context() as patch:
    patch.setattr(report_records, "PROMPTS", 3)  # fewer: most changes would be made to one of many replies
    VALID = observations()


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quick_pages():
        yield


@fuzz
@given(content=mutated_json(VALID))
def test_any_observations_make_a_page_or_a_line(content: bytes) -> None:
    with scratch() as folder:
        (folder / MANIFEST).write_text(json.dumps(manifest()))
        (folder / OBSERVATIONS).write_bytes(content)
        made = outcome(lambda: page.render(gather(folder)))
        assert made is None or "<html" in made
