"""The main job on the bundled tiny chat model: it refuses, then it does not, and its harmless replies stay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from abliterate.activations import cache as activation_cache
from abliterate.directions.candidates import DEEPEST
from abliterate.errors import InputError, NoRefusalsError
from abliterate.pipeline.run import Result, run
from abliterate.storage import record_log as kept
from fixtures.folders import PYTHONPATH
from fixtures.tiny_chat import TINY, everything_on_the_disk, hashes, in_float32, options
from fixtures.unfinished import QUICK, Stop


def test_refusals_go_and_harmless_replies_stay(result: Result) -> None:
    measured = result.measured
    assert measured.original is not None
    assert measured.edited is not None
    assert measured.divergence is not None
    assert measured.original.harmful_refusals.value >= 0.95
    assert measured.original.harmless_refusals.value <= 0.04
    assert measured.edited.harmful_refusals.value <= 0.05
    pairs = zip(measured.original.harmless, measured.edited.harmless, strict=True)
    answered = [(before.text, after.text) for before, after in pairs if not before.refused]
    assert sum(before == after for before, after in answered) >= 0.9 * len(answered)
    assert measured.divergence.first_token_answered.value < 0.1


def test_the_choice_obeys_the_rule(result: Result) -> None:
    selection = result.measured.selection
    assert selection is not None
    assert selection.floor == 0
    assert selection.chosen.allowed(0.0)
    assert selection.chosen.layer < int(DEEPEST * 8)
    rivals = [one for one in selection.candidates if one.allowed(0.0)]
    assert selection.chosen.bypass == min(one.bypass for one in rivals)


def test_the_end_of_the_instruction_is_shown_and_gives_no_direction(result: Result) -> None:
    selection = result.measured.selection
    assert selection is not None
    assert {one.position for one in selection.candidates} == {-4, -3, -2, -1}
    separation = json.loads((result.out / "observations.json").read_text())["separation"]
    assert separation["positions"] == [-5, -4, -3, -2, -1]
    assert separation["instruction_end"] == -5
    assert len(separation["auc"]) == 5


def test_the_proof_holds(result: Result) -> None:
    proof = result.measured.proof
    assert proof.kind == "silence"
    assert proof.before is not None
    assert proof.largest < proof.limit < proof.before
    assert len(proof.per_layer) == 9
    assert len(result.measured.tensors) == 17
    for tensor in result.measured.tensors:
        assert tensor.component_after < 0.02 * tensor.component_before


def test_the_folder_holds_all_that_a_user_needs(result: Result) -> None:
    assert {path.name for path in result.out.iterdir()} == {
        "README.md", "abliterate.json", "abliterate.toml", "chat_template.jinja", "config.json", "directions.safetensors",
        "generation_config.json", "harmful.txt", "harmless.txt", "look-alikes.txt", "model.safetensors", "observations.json", "recipe.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    manifest = json.loads((result.out / "abliterate.json").read_text())
    assert manifest == json.loads(json.dumps(result.manifest))
    assert str(result.out.parent) not in (result.out / "abliterate.json").read_text()
    original, edited = load_file(TINY / "model.safetensors"), load_file(result.out / "model.safetensors")
    changed = {name for name in original if not torch.equal(original[name], edited[name])}
    assert changed == {record["name"] for record in manifest["tensors"]}
    with safe_open(result.out / "directions.safetensors", framework="pt") as file:
        assert manifest["recipe"]["direction"] in file.keys()  # noqa: SIM118
        assert json.loads(file.metadata()["abliterate"])["method"] == "projected"


def test_the_same_seed_gives_the_same_bytes_and_the_cache_serves_the_second_run(
    result: Result, tmp_path: Path, own_cache: Path
) -> None:
    cached = hashes(own_cache / "activations")
    again = run(options(tmp_path / "edited"))
    assert hashes(again.out) == hashes(result.out)
    assert hashes(own_cache / "activations") == cached
    assert cached


@pytest.mark.slow
def test_a_run_that_streams_ends_like_one_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To rounding: its batches are others, and it computes no shared prefix apart."""
    whole = run(in_float32(tmp_path / "whole"))
    monkeypatch.setattr("abliterate.models.loading.plan_offload", everything_on_the_disk)
    streamed = run(in_float32(tmp_path / "edited", max_memory=1))
    assert streamed.manifest["direction"] == whole.manifest["direction"]
    rows, streamed_rows = (load_file(one.out / "directions.safetensors") for one in (whole, streamed))
    for name, row in rows.items():
        torch.testing.assert_close(streamed_rows[name], row, rtol=0, atol=1e-5)
    weights, streamed_weights = (load_file(one.out / "model.safetensors") for one in (whole, streamed))
    for name, weight in weights.items():  # a step of bfloat16, in which they are stored
        torch.testing.assert_close(streamed_weights[name], weight, rtol=2**-7, atol=1e-6)
    for when in ("original", "edited"):
        assert streamed.manifest["figures"][when] == whole.manifest["figures"][when]
    assert "layers stayed on the disk" in streamed.notes[-1]
    assert "--max-memory" not in streamed.manifest["command"]


@pytest.mark.slow
def test_a_layer_can_be_given(tmp_path: Path) -> None:
    one = run(options(tmp_path / "edited", layer=5, direction="mean-difference"))
    assert one.manifest["direction"]["layer"] == 5
    assert one.manifest["direction"]["method"] == "mean-difference"
    assert "--layer" in one.manifest["command"]


@pytest.mark.slow
def test_any_other_strength_is_proved_against_the_hook_form(tmp_path: Path) -> None:
    one = run(options(tmp_path / "edited", layer=4, strength=0.5))
    assert one.measured.proof.kind == "agreement"
    assert one.measured.proof.largest < one.measured.proof.limit


def test_a_model_that_never_refuses_has_no_direction(result: Result, tmp_path: Path) -> None:
    with pytest.raises(NoRefusalsError, match="no direction"):
        run(options(tmp_path / "again", model=str(result.out)))
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_without_force(result: Result) -> None:
    before = hashes(result.out)
    with pytest.raises(InputError, match="--force"):
        run(options(result.out))
    assert hashes(result.out) == before


def test_the_source_is_never_the_destination() -> None:
    with pytest.raises(InputError, match="--out"):
        run(options(TINY / "edited"))


@pytest.mark.slow
def test_a_killed_run_continues(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from abliterate.pipeline import run as pipeline

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "diverge", killed)
        with pytest.raises(KeyboardInterrupt):
            run(options(tmp_path / "edited"))
    assert not (tmp_path / "edited").exists()
    assert (tmp_path / "edited.partial" / "model.safetensors").exists()
    run(options(tmp_path / "edited"))
    assert hashes(tmp_path / "edited") == hashes(result.out)
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"edited"}


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


@pytest.mark.slow
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
from fixtures.unfinished import QUICK, Stop
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


@pytest.mark.slow
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


@pytest.mark.slow
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
