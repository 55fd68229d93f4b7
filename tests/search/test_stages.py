"""The search: its gradients are those of the edit, its choice is the front's, and an interruption costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.commands.apply import apply
from abliterate.commands.verify import verify
from abliterate.directions.candidates import Selection
from abliterate.directions.directions import Directions
from abliterate.errors import InputError
from abliterate.models.gradient_memory import frozen
from abliterate.models.live_model import LiveModel
from abliterate.pipeline.find import optimise
from abliterate.pipeline.load import Loaded
from abliterate.pipeline.replies import TrainingReplies
from abliterate.pipeline.run import Result, run
from abliterate.progress import SILENT
from abliterate.search import closing, losses, pressure, stages
from abliterate.search.stages import SearchData
from abliterate.search.state import State
from fixtures.search import ANSWERS, PLACES, random_edit, rows_of, ruler_of
from fixtures.tiny_chat import TINY, options


def test_the_search_leaves_the_model_as_it_was(llama: PreTrainedModel) -> None:
    before = [parameter.requires_grad for parameter in llama.parameters()]
    with frozen(llama):
        assert not any(parameter.requires_grad for parameter in llama.parameters())
    assert [parameter.requires_grad for parameter in llama.parameters()] == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimize": True, "strength": 0.5}, "--strength and --optimize"),
        ({"max_kl": 0.1}, "--max-kl chooses among the edits of a search; add --optimize"),
        ({"target_refusals": 0.1}, "--target-refusals chooses"),
        ({"optimize": True, "max_kl": -1.0}, "--max-kl -1.0: give a number from 0 up"),
    ],
)
def test_flags_that_contradict_each_other(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run(options(tmp_path / "edited", **changes))


def test_the_search_beats_the_automatic_choice(searched: Result) -> None:
    found = searched.measured.search
    assert found is not None
    start = found.front.points[0]
    assert start.refusal_weight is None
    assert found.chosen.kl < start.kl
    assert found.chosen.refusals <= start.refusals
    assert searched.measured.proof.kind == "agreement"


def test_manifest_and_recipe_repeat_the_search(searched: Result, tmp_path: Path) -> None:
    record = searched.manifest["search"]
    assert len(record["points"]) == len(pressure.REFUSAL_WEIGHTS) + 1
    assert record["points"][record["chosen"]]["strengths"] == searched.manifest["recipe"]["strengths"]
    assert record["tokens"]["backward"] > 0
    card = (searched.out / "README.md").read_text()
    assert "found by gradient" in card
    again = options(tmp_path / "again")
    apply(again, searched.out / "directions.safetensors", searched.out / "recipe.json")
    first, second = (load_file(folder / "model.safetensors") for folder in (searched.out, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert verify(again.model, searched.out, again).holds


@pytest.mark.slow
def test_the_batch_size_that_was_asked_for_holds_throughout(
    training_replies: tuple[Loaded, TrainingReplies, Directions, Selection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients, comparisons and replies: no forward of the search carries more prompts."""
    monkeypatch.setattr(pressure, "REFUSAL_WEIGHTS", (0.5,))
    loaded, *rest = training_replies
    asked = replace(loaded, options=replace(loaded.options, batch_size=8))
    with rows_of(loaded.model) as rows:
        optimise(asked, *rest, SILENT)
    assert max(rows) == 8


def test_the_last_edits_close_in_on_the_limit(
    training_replies: tuple[Loaded, TrainingReplies, Directions, Selection],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One stage, which lies beyond the limit: what follows lies just within. What is through is not run again."""
    monkeypatch.setattr(pressure, "REFUSAL_WEIGHTS", (0.5,))
    monkeypatch.setattr(stages, "STEPS", 2)
    monkeypatch.setattr(closing, "CLOSING", 1)
    loaded, *rest = training_replies
    limit = 1e-3
    asked = replace(loaded, options=replace(loaded.options, max_kl=limit))
    found = optimise(asked, *rest, SILENT)
    assert found is not None
    *stage_ends, last = found.front.points
    assert all(point.kl > limit for point in stage_ends)
    assert 0.5 * limit <= last.kl <= limit
    assert found.chosen is last
    (kept,) = cache.rglob("searches/*")
    state = State.load(kept, [])
    assert state is not None
    assert [point.kl for point in state.points[1:]] == [point.kl for point in found.front.points]
    with rows_of(loaded.model) as rows:
        again = optimise(asked, *rest, SILENT)
    assert again is not None
    assert len(rows) < 20  # nothing but the original's states
    assert [point.to_json() for point in again.front.points] == [point.to_json() for point in found.front.points]
    without = replace(asked, options=replace(asked.options, max_kl=None, pick="knee", max_lost=0.5))
    other = optimise(without, *rest, SILENT)
    assert other is not None
    assert len(other.front.points) == len(stage_ends)
    assert other.front.max_lost == 0.5


@pytest.mark.slow
def test_a_search_of_two_directions_is_written_proved_and_repeated(tmp_path: Path) -> None:
    found = run(options(tmp_path / "edited", optimize=True, edit_rank=2))
    recipe = found.manifest["recipe"]
    assert recipe["directions"] == ["learned.1", "learned.2"]
    assert found.manifest["search"]["points"][found.manifest["search"]["chosen"]]["strengths"] == recipe["strengths"]
    assert found.measured.proof.holds
    rows = load_file(found.out / "directions.safetensors")
    assert abs(float(rows["learned.1"] @ rows["learned.2"])) < 1e-6
    assert found.manifest["command"][-4:-2] == ["--edit-rank", "2"]
    again = options(tmp_path / "again")
    apply(again, found.out / "directions.safetensors", found.out / "recipe.json")
    first, second = (load_file(folder / "model.safetensors") for folder in (found.out, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert verify(again.model, found.out, again).holds


@pytest.mark.slow
def test_two_processes_find_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch` on two CPU processes: half the tokens each, and the same front, to rounding of float32."""
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "one"))
    alone = run(options(tmp_path / "alone", optimize=True, dtype="float32")).manifest["search"]
    script = tmp_path / "short.py"
    script.write_text(
        "import torch\nfrom abliterate import cli\nfrom abliterate.search import closing, pressure, stages\n"
        f"torch.backends.mkldnn.enabled = {torch.backends.mkldnn.enabled}\n"  # the kernels of the one process
        f"pressure.REFUSAL_WEIGHTS, pressure.HARDER = {pressure.REFUSAL_WEIGHTS}, {pressure.HARDER}\n"
        f"closing.CLOSING, stages.STEPS = {closing.CLOSING}, {stages.STEPS}\ncli.main()\n"
    )
    # --multi_gpu is how it starts several processes on one machine; there need not be a GPU.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command += [
        str(script),
        str(TINY),
        "--harmful",
        str(TINY / "harmful.txt"),
        "--harmless",
        str(TINY / "harmless.txt"),
    ]
    command += ["--device", "cpu", "--dtype", "float32", "--optimize", "--json", "--out", str(tmp_path / "together")]
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "two"))
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    together = json.loads(done.stdout.splitlines()[-1])["manifest"]["search"]
    assert together["tokens"]["backward"] < 0.6 * alone["tokens"]["backward"]
    # Capture and replies are shared out too, in batches, so that directions are those of one process bit for bit.
    first, second = (load_file(tmp_path / name / "directions.safetensors") for name in ("alone", "together"))
    layers = [name for name in first if name.startswith("resid.")]
    assert layers
    assert all(torch.equal(first[name], second[name]) for name in layers)
    for one, other in zip(alone["points"], together["points"], strict=True):
        assert one["refusals"] == other["refusals"]
        assert one["kl"] == pytest.approx(other["kl"], rel=1e-3)
        for site, strengths in one["strengths"].items():
            assert torch.allclose(torch.tensor(strengths), torch.tensor(other["strengths"][site]), atol=1e-4)


def test_a_model_that_streams_cannot_be_searched(llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "streaming_of", lambda model: object())
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    architecture = find_architecture(llama)
    with pytest.raises(InputError, match="does not fit into memory"):
        stages.search(LiveModel.of(llama, tokenizer), random_edit(architecture), SearchData([], [], [], [], []))


def test_a_loss_that_is_added_is_summed_by_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the divergence at half its weight again is as much as the divergence alone, twice."""
    edit_losses, architecture = ruler_of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32))
    edit = random_edit(architecture)
    settings_before = stages.search_settings()
    answers = edit_losses.states(ANSWERS)
    with frozen(edit_losses.model):
        turned = edit.copy()
        turned.direction.requires_grad_()
        plain = edit_losses.backward(PLACES, ANSWERS, answers, turned, (0.7, 1.3))
        doubled = losses.Loss(
            losses.AT_REPLIES, lambda rows, original: 2 * losses.reply_divergence(original, rows).mean(), 0.5
        )
        monkeypatch.setitem(losses.LOSSES, "doubled", doubled)
        both = edit_losses.backward(PLACES, ANSWERS, answers, turned, (0.7, 1.3))
    assert both[0] == plain[0]
    assert both[1] == pytest.approx(2 * plain[1], rel=1e-6)
    assert stages.search_settings() != settings_before  # a search that was begun without it is another search
