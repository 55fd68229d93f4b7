"""Another point of a front, without searching again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abliterate.commands.pick import pick
from abliterate.errors import InputError
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import Result
from abliterate.search.found_file import load_found
from abliterate.storage.names import SEARCH
from fixtures.tiny_chat import TINY, hashes


def to(out: Path, **changes: object) -> Options:
    return Options(str(TINY), out, device="cpu", **changes)  # type: ignore[arg-type]


def test_the_point_that_a_run_took_gives_the_same_weights_and_others_theirs(searched: Result, tmp_path: Path) -> None:
    """Proved like a run, with the run's conditions, and itself a folder to pick from."""
    found = load_found(searched.out / SEARCH)
    same = pick(searched.out, to(tmp_path / "same"))
    assert same.found.front.points.index(same.found.chosen) == searched.manifest["search"]["chosen"]
    for name in ("model.safetensors", "recipe.json", SEARCH):
        assert hashes(tmp_path / "same")[name] == hashes(searched.out)[name]
    others = [one for one in found.front.best() if one.kl != same.found.chosen.kl]
    assert others, [vars(one) for one in found.front.points]
    other = pick(tmp_path / "same", to(tmp_path / "other", max_kl=others[0].kl, target_refusals=others[0].rate))
    assert (other.found.chosen.kl, other.found.chosen.refusals) == (others[0].kl, others[0].refusals)
    assert other.written.proof.holds
    manifest = json.loads((tmp_path / "other" / "abliterate.json").read_text())
    assert manifest["search"]["points"] == searched.manifest["search"]["points"]
    assert manifest["recipe"]["strengths"] == manifest["search"]["points"][manifest["search"]["chosen"]]["strengths"]
    assert manifest["run"]["command"] == searched.manifest["command"]
    assert manifest["figures"] is None


def test_what_cannot_be_picked_is_said_and_nothing_is_written(result: Result, searched: Result, tmp_path: Path) -> None:
    for folder, asked, message in (
        (result.out, {}, "has no search.safetensors; it is of a run without a search"),
        (searched.out, {"max_kl": 0.0}, "--max-kl 0: the least found is"),
        (searched.out, {"max_kl": -1.0}, "--max-kl -1.0: give a number from 0 up"),
        (searched.out, {"max_kl": 0.1, "pick": "knee"}, "choose in two ways"),
    ):
        with pytest.raises(InputError, match=message):
            pick(folder, to(tmp_path / "out", **asked))
        assert not (tmp_path / "out").exists()
