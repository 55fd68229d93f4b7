"""Another point of a front, without searching again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from abliterate.commands.pick import pick
from abliterate.errors import InputError
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import Result
from abliterate.search.found_file import load_found, save_found
from abliterate.search.front import Front
from abliterate.storage.names import SEARCH
from fixtures.tiny_chat import TINY, hashes


def to(out: Path, **changes: object) -> Options:
    return Options(str(TINY), out, device="cpu", **changes)  # type: ignore[arg-type]


def test_the_point_that_a_run_took_gives_the_same_weights_and_others_theirs(searched: Result, tmp_path: Path) -> None:
    """Proved like a run, with the run's conditions, and itself a folder to pick from."""
    found, manifest = load_found(searched.out / SEARCH), searched.manifest["search"]
    same = pick(searched.out, to(tmp_path / "same"))
    assert same.found.front.points.index(same.found.chosen) == manifest["chosen"]
    for name in ("model.safetensors", "recipe.json", SEARCH):
        assert hashes(tmp_path / "same")[name] == hashes(searched.out)[name]
    # Whether the start is on the front as well is the model's: here it is.
    start, *rest = found.front.points
    gentle = replace(start, refusals=found.chosen.refusals + 1, kl=found.chosen.kl / 2)
    front = replace(found.front, points=(gentle, *rest))
    save_found(tmp_path / "same" / SEARCH, replace(found, front=front, chosen=front.points[manifest["chosen"]]))
    other = pick(tmp_path / "same", to(tmp_path / "other", max_kl=gentle.kl))
    assert (other.found.chosen.kl, other.found.chosen.refusals) == (gentle.kl, gentle.refusals)
    assert other.written.proof.holds
    record = json.loads((tmp_path / "other" / "abliterate.json").read_text())
    assert record["search"]["points"][1:] == manifest["points"][1:]
    assert record["search"]["chosen"] == 0
    assert record["recipe"]["strengths"] == manifest["points"][0]["strengths"]
    assert record["run"]["command"] == searched.manifest["command"]
    assert record["figures"] is None


def test_how_many_refusals_that_shall_stay_may_be_lost_is_said_anew(searched: Result, tmp_path: Path) -> None:
    """The run's own share refuses all of them; the next takes the one that keeps most, and is kept beside the result."""
    shutil.copytree(searched.out, tmp_path / "run")
    found = load_found(searched.out / SEARCH)
    points = tuple(replace(point, kept=10 + number, kept_prompts=20) for number, point in enumerate(found.front.points))
    original = replace(found.front.original, kept=20, kept_prompts=20)
    save_found(tmp_path / "run" / SEARCH, replace(found, front=Front(points, original), chosen=points[0]))
    with pytest.raises(InputError, match=f"at most {points[-1].kept} are left; give more prompts, --max-lost"):
        pick(tmp_path / "run", to(tmp_path / "out"))
    picked = pick(tmp_path / "run", to(tmp_path / "out", max_lost=1 - points[-1].kept / 20))
    assert picked.found.chosen.kept == points[-1].kept
    assert (
        json.loads((tmp_path / "out" / "abliterate.json").read_text())["search"]["max_lost"] == 1 - points[-1].kept / 20
    )
    assert load_found(tmp_path / "out" / SEARCH).front.max_lost == 1 - points[-1].kept / 20


def test_what_cannot_be_picked_is_said_and_nothing_is_written(result: Result, searched: Result, tmp_path: Path) -> None:
    for folder, asked, message in (
        (result.out, {}, "has no search.safetensors; it is of a run without a search"),
        (searched.out, {"max_kl": 0.0}, "--max-kl 0: the least found is"),
        (searched.out, {"max_lost": 0.1}, "its search kept no refusals that --max-lost could be of; leave it away"),
        (searched.out, {"max_lost": 1.5}, "--max-lost 1.5: give a share from 0 to 1"),
        (searched.out, {"max_kl": -1.0}, "--max-kl -1.0: give a number from 0 up"),
        (searched.out, {"max_kl": 0.1, "pick": "knee"}, "choose in two ways"),
    ):
        with pytest.raises(InputError, match=message):
            pick(folder, to(tmp_path / "out", **asked))
        assert not (tmp_path / "out").exists()
