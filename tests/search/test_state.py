"""A search goes on where it was, if it is the same search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from abliterate.directions.candidates import Selection
from abliterate.directions.directions import Directions
from abliterate.pipeline.find import optimise, state_file
from abliterate.pipeline.load import Loaded
from abliterate.pipeline.replies import TrainingReplies
from abliterate.pipeline.run import Result, run
from abliterate.progress import SILENT
from abliterate.replies import coherence, refusals
from abliterate.search import closing, examples, losses, pressure, stages, variables
from abliterate.search.examples import Transcript
from abliterate.search.stages import SearchData
from abliterate.search.state import State
from abliterate.search.variables import Variables
from fixtures.search import random_edit, rows_of
from fixtures.tiny_chat import options


@pytest.mark.slow
def test_an_interrupted_search_goes_on(searched: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "cache"))
    stage, seen = stages.Search.stage, []

    def interrupted(self: stages.Search, state: State, turn: pressure.Turn, *rest: object) -> None:
        seen.append(turn.number)
        if seen == [0, 1]:
            raise KeyboardInterrupt
        stage(self, state, turn, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(stages.Search, "stage", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(options(tmp_path / "halves", optimize=True))
    halves = run(options(tmp_path / "halves", optimize=True))
    assert seen == [0, 1, 1, 2]
    assert halves.manifest["search"] == searched.manifest["search"]
    assert halves.manifest["tensors"] == searched.manifest["tensors"]


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        (pressure, "REFUSAL_WEIGHTS", (0.5, 0.1)),
        (pressure, "HARDER", 5),
        (closing, "CLOSING", 5),
        (closing, "AIM", (0.5, 0.6)),
        (stages, "STEPS", 11),
        (stages, "EXAMPLES", 8),
        (stages, "ANSWERS", 80),
        (stages, "ANSWER_TOKENS", 4),
        (stages, "REPLY_TOKENS", 16),
        (stages, "LAST_STEP", 0.1),
        (stages, "MOMENTA", (0.9, 0.999)),
        (examples, "MOST_SHARED", 6),
        (losses, "MARGIN", 2.0),
        (losses, "CERTAIN", 1e-5),
        (variables, "STRENGTH_STEP", 0.1),
        (variables, "TURN", 0.1),
        (variables, "STRONGEST", 1.0),
        (coherence, "DISTINCT", 0.5),
        (refusals, "OPENING_SENTENCES", 1),
        (torch, "__version__", "0"),
        (stages.transformers, "__version__", "0"),  # that of the room: its package may stand there twice
    ],
)
def test_a_search_under_other_settings_is_another(
    training_replies: tuple[Loaded, TrainingReplies, Directions, Selection],
    file: ModuleType,
    name: str,
    value: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded, start, data = (
        training_replies[0],
        random_edit(training_replies[0].architecture),
        SearchData([], [], [], [], []),
    )
    path = state_file(loaded, start, data)
    assert state_file(loaded, start, data) == path
    monkeypatch.setattr(file, name, value)
    assert state_file(loaded, start, data) != path


@pytest.mark.parametrize("changes", [{"batch_size": 4}, {"seed": 1}, {"sites": ("attn",)}, {"max_kl": 0.01}])
def test_a_search_that_is_asked_for_in_another_way_is_another(
    training_replies: tuple[Loaded, TrainingReplies, Directions, Selection], changes: dict[str, Any]
) -> None:
    loaded, start, data = (
        training_replies[0],
        random_edit(training_replies[0].architecture),
        SearchData([], [], [], [], []),
    )
    asked = replace(loaded, options=replace(loaded.options, **changes))
    assert state_file(asked, start, data) != state_file(loaded, start, data)


def test_another_start_or_other_prompts_are_another_search(
    training_replies: tuple[Loaded, TrainingReplies, Directions, Selection],
) -> None:
    architecture = training_replies[0].architecture
    edits = random_edit(architecture), random_edit(architecture)
    pools = SearchData([], [], [], [], []), SearchData([(1, 2)], [], [], [], []), SearchData([], [(1, 2)], [], [], [])
    assert len({state_file(training_replies[0], edit, data) for edit in edits for data in pools}) == 6


@pytest.mark.slow
def test_a_stale_state_is_left_alone(
    training_replies: tuple[Loaded, TrainingReplies, Directions, Selection],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search that is through is not run again; with another constant it is."""
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path))
    monkeypatch.setattr(pressure, "REFUSAL_WEIGHTS", (0.5,))
    first = optimise(*training_replies, SILENT)
    with rows_of(training_replies[0].model) as rows:
        again = optimise(*training_replies, SILENT)
        resumed = len(rows)
        monkeypatch.setattr(stages, "STEPS", 1)
        other = optimise(*training_replies, SILENT)
    assert first is not None
    assert again is not None
    assert other is not None
    assert resumed < (len(rows) - resumed) / 10
    assert first.to_json()["points"] == again.to_json()["points"]
    assert not torch.equal(first.front.points[-1].edit.direction, other.front.points[-1].edit.direction)


def test_a_damaged_state_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"half a fi")
    assert State.load(path, []) is None
    assert not path.exists()


@pytest.mark.parametrize(
    "record",
    [
        None,
        "[" * 100_000,
        "[]",
        "{}",
        '{"refused": {"x": []}, "answered": {}, "answers": [], "points": [], "spent": {}}',
        '{"refused": {}, "answered": {}, "answers": [[1]], "points": [], "spent": {}}',
        '{"refused": {}, "answered": {}, "answers": [], "points": [{"other": 1}], "spent": {}}',
        '{"refused": {}, "answered": {}, "answers": [], "points": [], "spent": {"other": 1}}',
    ],
)
def test_a_file_of_something_else_counts_as_none(tmp_path: Path, record: str | None) -> None:
    path = tmp_path / "state.safetensors"
    save_file({"0.direction": torch.ones(4)}, path, metadata={"search": record} if record else {"x": "y"})
    assert State.load(path, []) is None
    assert not path.exists()


def test_a_state_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        State(Variables({}, torch.ones(4)), Transcript([], {}, {})).save(tmp_path / "file" / "state.safetensors")
