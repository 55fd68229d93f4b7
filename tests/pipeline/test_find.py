"""Finding a direction, taken up where it was left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from abliterate.parallel.processes import Processes
from abliterate.pipeline import find as finding
from abliterate.pipeline.find import capture_training, choose_addition, choose_place
from abliterate.pipeline.load import Loaded, load_run
from abliterate.pipeline.replies import collect_training_replies
from abliterate.progress import SILENT
from abliterate.storage.record_log import Unfinished
from fixtures.tiny_chat import options
from fixtures.unfinished import QUICK, Stop, afresh, found_by


@pytest.fixture(scope="module")
def inducing_loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load_run(options(tmp_path_factory.mktemp("loaded") / "edited", mode="induce", **QUICK), SILENT)


def interrupted_after_each(work: Callable[[Unfinished, Any], Any], folder: Path) -> tuple[Any, int]:
    """Do the work again and again on the same records, one unit further each time; return its end and the times."""
    for units in count(1):
        try:
            return work(Unfinished(folder), Stop(units)), units
        except KeyboardInterrupt:
            continue
    raise AssertionError


@pytest.mark.parametrize("step", ["capture", "listen", "choose", pytest.param("add", marks=pytest.mark.slow)])
def test_after_any_unit_a_step_goes_on(
    step: str,
    loaded: Loaded,
    inducing_loaded: Loaded,
    cache: Path,
    tmp_path: Path,
    computed: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finding, "TRIED_STRENGTHS", (0.5, 1.0))
    one = inducing_loaded if step == "add" else loaded
    training_replies, directions = found_by(one, tmp_path / "before")
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "other"))  # in which no capture is
    work: dict[str, Callable[[Loaded, Any], Any]] = {
        "capture": capture_training,
        "listen": collect_training_replies,
        "choose": lambda own, progress: choose_place(own, training_replies, directions, progress),
        "add": lambda own, progress: choose_addition(own, training_replies, directions, progress),
    }
    computed.clear()
    expected = work[step](afresh(one, tmp_path / "whole"), SILENT)
    whole = dict(computed)
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "third"))
    computed.clear()
    ended, times = interrupted_after_each(
        lambda own, progress: work[step](replace(one, unfinished=own), progress), tmp_path / "units"
    )
    assert times > 3
    assert computed == whole, "a finished unit was computed again, or one was left out"
    if step == "capture":
        assert all(torch.equal(mine.resid, theirs.resid) for mine, theirs in zip(ended, expected, strict=True))
        assert not list((tmp_path / "units").glob("*.safetensors")), "the parts are in the cache as a whole"
    else:
        assert ended == expected


@pytest.mark.slow
def test_of_several_processes_the_first_keeps_the_choice(
    loaded: Loaded, cache: Path, tmp_path: Path, computed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    training_replies, directions = found_by(loaded, tmp_path / "before")
    expected = choose_place(afresh(loaded, tmp_path / "whole"), training_replies, directions, SILENT)
    computed.clear()
    monkeypatch.setattr(Processes, "launched", lambda: Processes(1, 2))
    shared = tmp_path / "shared"
    assert choose_place(afresh(loaded, shared), training_replies, directions, SILENT) == expected
    assert len(Unfinished(shared)) == 0
    scores = computed["scores"]
    monkeypatch.setattr(Processes, "launched", lambda: Processes(0, 2))
    assert choose_place(afresh(loaded, shared), training_replies, directions, SILENT) == expected
    # All of them once more. Of so few prompts the first few are all: where a candidate goes on from those, the one that keeps
    # their divergence makes it once.
    assert 2 * scores - 1 <= computed["scores"] <= 2 * scores
    monkeypatch.setattr(Processes, "launched", lambda: Processes(1, 2))
    assert choose_place(afresh(loaded, shared), training_replies, directions, SILENT) == expected
    assert computed["scores"] == 2 * scores - 1, "the others take up what the first has kept"
