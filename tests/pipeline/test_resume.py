"""Interrupted anywhere, the same command goes on: nothing that was finished is done again, and all ends the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel

from abliterate.activations import cache as activation_cache
from abliterate.activations import capture as activations
from abliterate.activations.capture import capture
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.directions import addition as inducing
from abliterate.directions import selection
from abliterate.directions.selection import select
from abliterate.errors import InputError
from abliterate.models import generation as replies
from abliterate.models.generation import generate
from abliterate.parallel.processes import Processes
from abliterate.pipeline import find as finding
from abliterate.pipeline import load as loading_run
from abliterate.pipeline.find import capture_training, choose_addition, choose_place, find_directions
from abliterate.pipeline.load import Loaded, load_run, open_unfinished
from abliterate.pipeline.replies import TrainingReplies, collect_training_replies
from abliterate.pipeline.run import Result, run
from abliterate.progress import SILENT, Advance
from abliterate.storage import record_log as kept
from abliterate.storage.record_log import RecordLog, Unfinished
from fixtures.folders import PYTHONPATH
from fixtures.tiny_chat import TINY, hashes, options

QUICK: dict[str, Any] = {"n_train": 32, "batch_size": 16}


class Stop:
    """A progress that interrupts at the `units`-th advance of the `time`-th step with a title; of any step without one."""

    def __init__(self, units: int, title: str = "", time: int = 1, how: Callable[[], None] | None = None) -> None:
        self.units, self.title, self.time, self.how = units, title, time, how
        self.told = 0
        self.steps = Counter[str]()

    @contextmanager
    def step(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        self.steps[title] += 1
        watched = not self.title or (title == self.title and self.steps[title] == self.time)

        def advance(units: int) -> None:
            self.told += watched
            if watched and self.told == self.units:
                if self.how:
                    self.how()
                raise KeyboardInterrupt

        yield advance


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is computed, by what it is for: batches of activations, batches of replies, scores."""
    counted = Counter[str]()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted_function(*arguments: Any, **named: Any) -> Any:
            counted[name] += 1
            return function(*arguments, **named)

        return counted_function

    monkeypatch.setattr(activations, "final_hidden", counting("activations", activations.final_hidden))
    monkeypatch.setattr(replies, "reply_to", counting("replies", replies.reply_to))
    for room in (selection, inducing):  # the unedited model's own predictions are asked for in `scoring`: no unit
        monkeypatch.setattr(room, "final_states", counting("scores", room.final_states))
    return counted


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load_run(options(tmp_path_factory.mktemp("loaded") / "edited", **QUICK), SILENT)


@pytest.fixture(scope="module")
def inducing_loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load_run(options(tmp_path_factory.mktemp("loaded") / "edited", mode="induce", **QUICK), SILENT)


def afresh(loaded: Loaded, folder: Path) -> Loaded:
    return replace(loaded, unfinished=Unfinished(folder))


def found_by(loaded: Loaded, folder: Path) -> tuple[TrainingReplies, Any]:
    """What the steps before a choice find, on records of their own."""
    loaded = afresh(loaded, folder)
    both, training_replies = capture_training(loaded, SILENT), collect_training_replies(loaded, SILENT)
    return training_replies, find_directions(loaded, training_replies, *both)


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


POINTS = (
    ("capturing activations", 1, 2),
    ("how refusals and answers open", 1, 3),
    ("bypass of every candidate", 1, 2),
    ("bypass of the better third", 1, 1),
    ("induce and KL of the best", 1, 1),
    ("replies to the report prompts", 1, 1),
    ("predictions along the replies", 1, 1),
    ("replies to the report prompts", 2, 2),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLITERATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return run(options(tmp_path_factory.mktemp("run") / "edited", **QUICK))


def test_a_run_interrupted_in_every_step_goes_on(
    whole: Result, cache: Path, tmp_path: Path, computed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "undisturbed"))
    run(options(tmp_path / "first", **QUICK))
    expected = dict(computed)
    monkeypatch.setenv("ABLITERATE_CACHE", str(cache))
    computed.clear()
    for title, time, units in POINTS:
        with pytest.raises(KeyboardInterrupt):
            run(options(tmp_path / "edited", **QUICK), Stop(units, title, time))
        assert not (tmp_path / "edited").exists()
        assert len(list((cache / "runs").iterdir())) == 1
    again = run(options(tmp_path / "edited", **QUICK))
    assert computed == expected
    assert hashes(again.out) == hashes(whole.out)
    assert again.notes == whole.notes
    assert not list((cache / "runs").iterdir()), "a finished run leaves no records"
    computed.clear()
    run(options(tmp_path / "again", **QUICK))
    assert computed == {name: number for name, number in expected.items() if name != "activations"}


KILLED = """
import os, signal, sys
from pathlib import Path
from fixtures.tiny_chat import options
from pipeline.test_resume import QUICK, Stop
from abliterate.pipeline.run import run
title, time, units = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
run(options(Path(sys.argv[1]), **QUICK), Stop(units, title, time, lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_by_the_system_a_run_goes_on(whole: Result, cache: Path, tmp_path: Path, computed: Counter[str]) -> None:
    """Three real kills, and the end in this process: the records of one process serve the next."""
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    for point in (POINTS[0], POINTS[1], POINTS[7]):
        words = [sys.executable, "-c", KILLED, str(tmp_path / "edited"), *map(str, point)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
    again = run(options(tmp_path / "edited", **QUICK))
    assert hashes(again.out) == hashes(whole.out)
    assert computed["activations"] == computed["scores"] == 0
    assert whole.measured.original is not None
    asked = len(whole.measured.original.harmful) + len(whole.measured.original.harmless)
    batches = -(-asked // QUICK["batch_size"])
    assert computed["replies"] == batches - 2, "two batches of the edited model's replies were kept"


def test_a_cache_that_cannot_be_written_ends_no_run(
    whole: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "file"))
    one = run(options(tmp_path / "edited", **QUICK))
    assert hashes(one.out) == hashes(whole.out)
    assert one.notes[:-1] == whole.notes
    assert "could not be kept" in one.notes[-1]
    assert "Not a directory" in one.notes[-1]


def test_a_disk_that_fills_up_ends_no_run(
    whole: Result, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(activation_cache, "save_file", full)
    monkeypatch.setattr(kept, "ends_torn", full)
    one = run(options(tmp_path / "edited", **QUICK))
    assert hashes(one.out) == hashes(whole.out)
    assert one.notes[:-1] == whole.notes
    assert "No space left on device" in one.notes[-1]


def test_records_are_those_of_one_command_on_one_model(
    loaded: Loaded, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder(given: Any = loaded.options) -> Path:
        unfinished = open_unfinished(given, loaded.source, loaded.model)
        assert unfinished.path.parent.is_dir()
        return unfinished.path.parent

    usual = folder()
    assert folder() == usual
    others = [replace(loaded.options, **change) for change in ({"layer": 3}, {"system": "Be kind."}, {"batch_size": 8})]
    found = {usual, *map(folder, others)}
    for place, name, value in (
        (loading_run, "code_digest", lambda: "other"),
        (loading_run, "version", lambda name: "0"),
        (loading_run, "hardware", lambda device: {}),
        (Checkpoint, "fingerprint", lambda checkpoint: "other"),
        (PreTrainedModel, "dtype", torch.float16),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, value)
            found.add(folder())
    assert len(found) == 9


def test_replies_belong_to_their_batch_their_limit_and_what_is_shared(llama: PreTrainedModel, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)  # for its end tokens only
    prompts = torch.randint(3, 97, (6, 7), generator=torch.Generator().manual_seed(0)).tolist()
    alike = [[5, 6, 7, *prompt] for prompt in prompts]
    asked: tuple[tuple[Any, ...], ...] = (
        (prompts, 8), (prompts, 9), (prompts[:5], 8), (prompts[::-1][:5], 8), (alike, 8), ([*alike, *prompts], 8),
    )  # fmt: skip
    for size in (2, 3):
        for given, limit in asked:
            expected = generate(llama, tokenizer, given, limit, batch_size=size)
            records = RecordLog(tmp_path / "replies.jsonl")
            assert generate(llama, tokenizer, given, limit, batch_size=size, kept=records) == expected
            before = len(records)
            again = generate(llama, tokenizer, given, limit, batch_size=size, kept=RecordLog(records.path))
            assert again == expected
            assert len(RecordLog(records.path)) == before


def test_what_is_kept_of_other_weights_is_not_taken_up(loaded: Loaded, cache: Path, tmp_path: Path) -> None:
    """Of other directions, openings or prompts: each choice is that of records of its own."""
    training_replies, directions = found_by(loaded, tmp_path / "before")
    harmful, harmless = (loaded.splits.chat.encode(part.prompts) for part in loaded.splits.selecting())
    turned = replace(directions, differences=directions.differences.flip(0) * 1.01)
    fewer = (
        training_replies.openings[:1] if len(training_replies.openings) > 1 else ((*training_replies.openings[0], 5),)
    )
    common = loaded.model, loaded.architecture
    choices: tuple[tuple[Any, ...], ...] = (
        (directions, training_replies.openings, harmful, harmless),
        (turned, training_replies.openings, harmful, harmless),
        (directions, fewer, harmful, harmless),
        (directions, training_replies.openings, harmful[1:], harmless),
        (directions, training_replies.openings, harmful, harmless[1:]),
    )
    for given in choices:
        records = RecordLog(tmp_path / "all.jsonl")
        mixed = select(*common, *given, layer=4, kept=records)
        assert mixed == select(*common, *given, layer=4)
    assert len(records) > len(choices)


def test_a_part_that_was_damaged_is_captured_again(
    loaded: Loaded, cache: Path, tmp_path: Path, computed: Counter[str]
) -> None:
    prompts = loaded.splits.harmful.prompts[:40]
    how: dict[str, Any] = {"batch_size": 8, "architecture": loaded.architecture}
    expected = capture(loaded.model, loaded.splits.chat, prompts, **how)
    computed.clear()
    first = capture(loaded.model, loaded.splits.chat, prompts, kept=Unfinished(tmp_path / "parts"), **how)
    parts = sorted((tmp_path / "parts").glob("*.safetensors"))
    assert len(parts) == computed["activations"] == 5
    parts[2].write_bytes(parts[2].read_bytes()[:-9])
    again = capture(loaded.model, loaded.splits.chat, prompts, kept=Unfinished(tmp_path / "parts"), **how)
    assert computed["activations"] == 6
    assert torch.equal(first.resid, expected.resid)
    assert torch.equal(again.resid, expected.resid)


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
    assert computed["scores"] == 2 * scores
    monkeypatch.setattr(Processes, "launched", lambda: Processes(1, 2))
    assert choose_place(afresh(loaded, shared), training_replies, directions, SILENT) == expected
    assert computed["scores"] == 2 * scores, "the others take up what the first has kept"


def test_strict_records_still_say_that_they_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    records = RecordLog(tmp_path / "records.jsonl")
    records.path.mkdir()
    with pytest.raises(InputError, match="cannot keep replies in"):
        records.once("a", lambda: 1)
    assert Unfinished(tmp_path / "file" / "below").notes
    assert not Unfinished(tmp_path / "good").notes
