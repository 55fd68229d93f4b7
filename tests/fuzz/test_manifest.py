"""The manifest `abliterate.json`, which lies beside every edit that is downloaded, and is anybody's word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given

from abliterate.commands.export import with_original
from abliterate.commands.reproduce import (
    COMPARED,
    check_ingredients,
    compare_manifests,
    count,
    explain,
    repeated_options,
)
from abliterate.errors import AbliterateError
from abliterate.models.source import Source
from abliterate.pipeline.conditions import recorded_in
from abliterate.pipeline.options import Options
from abliterate.pipeline.reproduce_options import ReproduceOptions
from abliterate.progress import SILENT
from abliterate.records.manifest import check_source, part, read_manifest
from abliterate.report import page
from abliterate.report.load import gather
from abliterate.storage.names import MANIFEST
from fixtures.mutations import fuzz, mutated_json, outcome, scratch
from fixtures.report_records import manifest, quick_pages
from fixtures.tiny_chat import TINY

VALID = manifest() | {
    "format": 1,
    "chat_template": {"file": "chat_template.jinja", "digest": "ab" * 32},
    "hardware": {"device": "cpu", "threads": 2},
    "edited_dtype": "bfloat16",
}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quick_pages():
        yield


@fuzz
@given(content=mutated_json(VALID))
def test_any_manifest_makes_a_page_or_a_line(content: bytes) -> None:
    with scratch() as folder:
        (folder / MANIFEST).write_bytes(content)
        made = outcome(lambda: page.render(gather(folder)))
        assert made is None or "<html" in made


@fuzz
@given(content=mutated_json(VALID))
def test_any_manifest_is_repeated_or_refused(content: bytes) -> None:
    with scratch() as folder:
        (folder / MANIFEST).write_bytes(content)
        found = outcome(lambda: read_manifest(folder))
        if found is None:
            return
        given_options = ReproduceOptions(model="someone/else", offline=True)
        outcome(lambda: repeated_options(found, given_options, folder, folder / "out"))
        outcome(lambda: repeated_options(found, replace(given_options, model=None), folder, folder / "out"))
        outcome(lambda: with_original(Options("", folder), found))
        compared = ({name: one.get(name) for name in COMPARED} for one in (found, VALID))
        list(compare_manifests("", *compared))
        count(found)
        explain(found, VALID)


@fuzz
@given(content=mutated_json(VALID))
def test_any_manifest_beside_a_model_says_how_its_run_asked_or_is_refused(content: bytes) -> None:
    with scratch() as folder:
        (folder / MANIFEST).write_bytes(content)
        recorded = outcome(lambda: recorded_in(folder, "a model"))
        if recorded is None:
            return
        for side in ("harmful", "harmless"):
            recorded.digest(side)
        conditions = outcome(
            lambda: recorded.conditions(("system", "thinking", "harmful", "harmless", "chat_template"))
        )
        for name, value in (conditions or {}).items():
            outcome(lambda name=name, value=value: recorded.identity(name, value))


@pytest.fixture(scope="module")
def tiny() -> Source:
    from abliterate.models.source import resolve

    return resolve(str(TINY), offline=True, progress=SILENT)


@fuzz
@given(content=mutated_json({name: VALID[name] for name in ("source", "prompts", "proof", "direction", "recipe")}))
def test_any_manifest_is_held_against_the_original(tiny: Source, content: bytes) -> None:
    """None of them names the weights of this model: each reader refuses all of them."""
    with scratch() as folder:
        (folder / MANIFEST).write_bytes(content)
        found = outcome(lambda: read_manifest(folder))
        if found is None:
            return
        for check in (
            lambda: check_source(folder, part(found, "source"), tiny, SILENT),
            lambda: check_ingredients(found, Options(str(TINY), folder / "out"), SILENT),
        ):
            with pytest.raises(AbliterateError):
                raised(check)


def raised(check: object) -> None:
    """Call; what it raises passes through once `outcome` has looked at it."""
    assert callable(check)
    outcome(check)
    check()
