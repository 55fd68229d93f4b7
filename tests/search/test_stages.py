"""The search: its gradients are those of the edit, its choice is the front's, and an interruption costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.commands.apply import apply
from abliterate.commands.verify import verify
from abliterate.directions.candidates import Selection
from abliterate.directions.directions import Directions
from abliterate.errors import InputError
from abliterate.interventions import ablated
from abliterate.models.head import Head
from abliterate.parallel.processes import Processes
from abliterate.pipeline.find import capture_training, choose_place, find_directions, optimise, state_file
from abliterate.pipeline.load import Loaded, load_run
from abliterate.pipeline.replies import TrainingReplies, collect_training_replies
from abliterate.pipeline.run import Result, run
from abliterate.progress import SILENT
from abliterate.replies import coherence, refusals
from abliterate.search import examples, losses, stages, variables
from abliterate.search.examples import DivergencePoint, OriginalReply, Transcript, divergence_point, hard_examples
from abliterate.search.front import Front, Point, knee
from abliterate.search.losses import EditLosses, TokenCount
from abliterate.search.memory import MemoryPlan, plan_memory
from abliterate.search.stages import SearchData
from abliterate.search.state import State
from abliterate.search.variables import STRONGEST, Variables
from fixtures.tiny_chat import TINY, options

PLACES = [
    DivergencePoint((1, 2, 3, 4), (5, 6)),
    DivergencePoint((1, 2, 9), (7,)),
    DivergencePoint((1, 2, 3, 4, 8, 8, 3), (2,)),
]
ANSWERS = [OriginalReply((1, 2, 7, 7), (3, 4, 5)), OriginalReply((1, 2, 5), ()), OriginalReply((1, 2, 5, 6, 6), (9,))]


def ruler_of(model: PreTrainedModel, memory: MemoryPlan = MemoryPlan(1, False)) -> tuple[EditLosses, Architecture]:  # noqa: B008 (frozen)
    architecture = find_architecture(model)
    return EditLosses(model, architecture, Head(model), memory, TokenCount()), architecture


def random_edit(architecture: Architecture) -> Variables:
    edit = Variables.start(architecture, torch.randn(architecture.d_model))
    for one in edit.strengths.values():
        one.uniform_(0.1, 1.2)
    return edit


def gradients(edit_losses: EditLosses, edit: Variables) -> list[torch.Tensor]:
    turned = edit.copy()
    for one in turned.tensors():
        one.requires_grad_()
    edit_losses.backward(PLACES, ANSWERS, edit_losses.states(ANSWERS), turned, (0.7, 1.3))
    return [one.grad for one in turned.tensors() if one.grad is not None]


def loss(edit_losses: EditLosses, edit: Variables) -> float:
    with stages.frozen(edit_losses.model):
        turned = edit.copy()
        turned.direction.requires_grad_()
        refusals, divergence = edit_losses.backward(PLACES, ANSWERS, edit_losses.states(ANSWERS), turned, (0.7, 1.3))
    return 0.7 * refusals + 1.3 * divergence


def slope(edit_losses: EditLosses, edit: Variables, place: int, turn: torch.Tensor, step: float) -> float:
    """The loss's slope as one of the tensors is turned, by differences of fourth order."""
    ends = {}
    for steps in (-2, -1, 1, 2):
        moved = edit.copy()
        moved.tensors()[place].add_(steps * step * turn)
        ends[steps] = loss(edit_losses, moved)
    return (8 * (ends[1] - ends[-1]) - (ends[2] - ends[-2])) / (12 * step)


def test_gradients_are_those_of_finite_differences(model: PreTrainedModel) -> None:
    """On every family (gains behind writers, tied heads, biases), each strength by itself, to 1% of the gradient.

    Rounding moves the slopes by up to 0.3% of it: edits and log-probabilities are computed in float32. Hence steps as
    long as the loss is smooth, which is shorter along the direction.
    """
    model = model.double()
    edit_losses, architecture = ruler_of(model)
    edit = random_edit(architecture)
    with stages.frozen(model):
        found = gradients(edit_losses, edit)
    for place, (tensor, gradient) in enumerate(zip(edit.tensors(), found, strict=True)):
        size = float(gradient.norm())
        turns, step = [*torch.eye(len(tensor))], 0.03
        if tensor is edit.direction:
            step = 0.01
            turns = [torch.nn.functional.normalize(one, dim=0) for one in (gradient, torch.randn_like(tensor))]
        for turn in turns:
            assert slope(edit_losses, edit, place, turn, step) == pytest.approx(float(gradient @ turn), abs=0.01 * size)


def test_the_edit_is_that_of_its_recipe(model: PreTrainedModel) -> None:
    architecture = find_architecture(model)
    edit = random_edit(architecture)
    tokens = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad():
        with edit.applied(model, architecture):
            searched = model(tokens).logits
        with ablated(model, edit.direction, edit.recipe(), architecture):
            assert torch.allclose(model(tokens).logits, searched, atol=1e-4)


@pytest.mark.parametrize("memory", [MemoryPlan(10**6, False), MemoryPlan(1, True), MemoryPlan(10**6, True)])
def test_small_batches_and_layers_run_twice_change_no_gradient(llama: PreTrainedModel, memory: MemoryPlan) -> None:
    whole, architecture = ruler_of(llama)
    edit = random_edit(architecture)
    with stages.frozen(llama):
        expected = gradients(whole, edit)
        found = gradients(ruler_of(llama, memory)[0], edit)
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)
    assert "forward" not in vars(llama.get_submodule(architecture.layers[0]))


def test_layers_run_twice_for_gradients_alone(llama: PreTrainedModel) -> None:
    """Replies, and predictions that are only compared, go through a layer once however little room there is."""
    architecture = find_architecture(llama)
    edit, runs = random_edit(architecture), []
    llama.get_submodule(architecture.layers[0]).mlp.register_forward_pre_hook(lambda *given: runs.append(1))
    counts = []
    for memory in (MemoryPlan(1, False), MemoryPlan(1, True)):
        edit_losses, _ = ruler_of(llama, memory)
        with stages.frozen(llama):
            compared = len(runs)
            edit_losses.states(ANSWERS, edit)
            followed = len(runs)
            gradients(edit_losses, edit)
        counts.append((followed - compared, len(runs) - followed))
    (compared, followed), (compared_again, followed_again) = counts
    assert compared_again == compared
    assert followed_again == followed + (followed - compared)  # the original's own states are compared as well


def test_the_room_shrinks_with_the_memory(llama: PreTrainedModel) -> None:
    plenty, little, none = (plan_memory(llama, free) for free in (10**12, 10**7, 10**5))
    assert plenty == MemoryPlan(1, False)
    assert little.copies > 1
    assert none.recompute


@contextmanager
def rows_of(model: PreTrainedModel) -> Iterator[list[int]]:
    """Collect how many prompts each forward carries."""
    rows: list[int] = []
    embedding = model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    try:
        yield rows
    finally:
        handle.remove()


def test_the_size_of_batches_changes_no_gradient(model: PreTrainedModel) -> None:
    whole, architecture = ruler_of(model)
    edit = random_edit(architecture)
    with stages.frozen(model):
        expected = gradients(whole, edit)
        with rows_of(model) as rows:
            found = gradients(replace(whole, batch_size=1), edit)
    assert set(rows) == {1}
    assert len(expected) == len(edit.tensors())
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)


def test_the_search_leaves_the_model_as_it_was(llama: PreTrainedModel) -> None:
    before = [parameter.requires_grad for parameter in llama.parameters()]
    with stages.frozen(llama):
        assert not any(parameter.requires_grad for parameter in llama.parameters())
    assert [parameter.requires_grad for parameter in llama.parameters()] == before


def test_strengths_and_direction_stay_within_their_bounds(llama: PreTrainedModel) -> None:
    edit = random_edit(find_architecture(llama))
    edit.strengths["attn"].fill_(9.0)
    edit.strengths["mlp"].fill_(-1.0)
    edit.direction.mul_(3.0)
    edit.bound()
    assert set(edit.strengths["attn"].tolist()) == {STRONGEST}
    assert set(edit.strengths["mlp"].tolist()) == {0.0}
    assert float(edit.direction.norm()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("reply", "others", "shared"),
    [
        ((1, 2, 3), [], 0),
        ((1, 2, 3), [(4, 5)], 0),
        ((1, 2, 3), [(1, 5), (1, 2, 9)], 2),
        ((1, 2, 3), [(1, 2, 3, 4)], 2),  # one token of its own is left
        ((1, 2, 3), [(1,)], 1),
        (tuple(range(40)), [tuple(range(30))], 12),
    ],
)
def test_where_a_refusal_parts_from_the_answers(
    reply: tuple[int, ...], others: list[tuple[int, ...]], shared: int
) -> None:
    assert divergence_point(reply, others) == shared


def test_places_gather_the_declining_tokens_of_one_prompt() -> None:
    transcript = Transcript([(10, 11), (12,)])
    for reply, refused in (((1, 2), True), ((3, 4), True), ((1, 7), False), ((), True), ((1, 2), True)):
        transcript.add(0, reply, refused)
    transcript.add(1, (5,), False)
    assert transcript.at_risk == [0]
    assert transcript.places() == [DivergencePoint((10, 11, 1), (2,)), DivergencePoint((10, 11), (3,))]


def test_hard_examples_are_the_worst_and_a_spread_of_the_rest() -> None:
    losses = [float(number) for number in range(100)]
    chosen = hard_examples(losses, 20)
    assert chosen[:10] == list(range(99, 89, -1))
    assert len(set(chosen)) == 20
    assert max(chosen[10:]) == 89
    assert min(chosen[10:]) < 15
    assert sorted(hard_examples([3.0, 1.0, 2.0], 20)) == [0, 1, 2]


def point(refusals: int, kl: float, incoherent: int = 0) -> Point:
    return Point(Variables({}, torch.zeros(0)), 1.0, refusals, incoherent, 100, kl)


POINTS = [point(0, 0.5), point(2, 0.1), point(5, 0.05), point(30, 0.04), point(4, 0.3), point(1, 0.001, 50)]
FRONT = Front(tuple(POINTS), point(60, 0.0, 1))


def test_the_front_holds_what_nothing_beats_and_says_something() -> None:
    assert FRONT.best() == POINTS[:4]
    assert knee(FRONT.best()) is POINTS[2]


@pytest.mark.parametrize(
    ("target", "limit", "chosen"),
    [
        (None, None, 2),
        (0.03, None, 1),
        (0.05, None, 2),
        (0.0, None, 0),
        (None, 0.1, 1),
        (None, 0.06, 2),
        (0.5, 0.06, 3),
    ],
)
def test_a_target_or_a_limit_chooses(target: float | None, limit: float | None, chosen: int) -> None:
    assert FRONT.choose(target, limit) is POINTS[chosen]


@pytest.mark.parametrize(
    ("target", "limit", "message"),
    [
        (None, 0.01, "--max-kl 0.01: the least found is 0.04"),
        (0.01, 0.1, "--target-refusals 0.01: the least found is 0.02"),
    ],
)
def test_what_no_point_reaches_is_said(target: float | None, limit: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FRONT.choose(target, limit)


def test_a_front_of_babble_is_refused() -> None:
    with pytest.raises(InputError, match="empty or go round in circles"):
        Front((point(0, 0.1, 60),), point(60, 0.0, 1)).choose(None, None)


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


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Three short stages do for a model so small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "REFUSAL_WEIGHTS", (0.5, 0.1, 0.02))
        patch.setattr(stages, "STEPS", 4)
        yield


@pytest.fixture(scope="module")
def searched(short: None, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(options(tmp_path_factory.mktemp("search") / "edited", optimize=True))


def test_the_search_beats_the_automatic_choice(searched: Result) -> None:
    found = searched.measured.search
    assert found is not None
    start = found.front.points[0]
    assert start.refusal_weight is None
    assert found.chosen.kl <= 0.6 * start.kl
    assert found.chosen.refusals <= start.refusals
    assert searched.measured.proof.kind == "agreement"


def test_manifest_and_recipe_repeat_the_search(searched: Result, tmp_path: Path) -> None:
    record = searched.manifest["search"]
    assert len(record["points"]) == len(stages.REFUSAL_WEIGHTS) + 1
    assert record["points"][record["chosen"]]["strengths"] == searched.manifest["recipe"]["strengths"]
    assert record["tokens"]["backward"] > 0
    card = (searched.out / "README.md").read_text()
    assert "found by gradient" in card
    again = options(tmp_path / "again")
    apply(again, searched.out / "directions.safetensors", searched.out / "recipe.json")
    first, second = (load_file(folder / "model.safetensors") for folder in (searched.out, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert verify(again.model, searched.out, again).holds


def test_an_interrupted_search_goes_on(searched: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "cache"))
    stage, seen = stages.Search.stage, []

    def interrupted(self: stages.Search, state: State, number: int, *rest: object) -> None:
        seen.append(number)
        if seen == [0, 1]:
            raise KeyboardInterrupt
        stage(self, state, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(stages.Search, "stage", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(options(tmp_path / "halves", optimize=True))
    halves = run(options(tmp_path / "halves", optimize=True))
    assert seen == [0, 1, 1, 2]
    for name in ("points", "chosen", "original"):  # the tokens are those that both halves took
        assert halves.manifest["search"][name] == searched.manifest["search"][name]
    assert halves.manifest["tensors"] == searched.manifest["tensors"]


@pytest.fixture(scope="module")
def training_replies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, TrainingReplies, Directions, Selection]:
    """All that comes before a search, on few prompts."""
    folder = tmp_path_factory.mktemp("session")
    files = {side: folder / f"{side}.txt" for side in ("harmful", "harmless")}
    for path in files.values():
        path.write_text("\n".join((TINY / path.name).read_text().splitlines()[:40]))
    given = {side: str(path) for side, path in files.items()}
    asked = options(folder / "edited", optimize=True, layer=4, **given)
    loaded = load_run(asked, SILENT)
    captured = capture_training(loaded, SILENT)
    said = collect_training_replies(loaded, SILENT)
    directions = find_directions(loaded, said, *captured)
    return loaded, said, directions, choose_place(loaded, said, directions, SILENT)


def test_the_batch_size_that_was_asked_for_holds_throughout(
    training_replies: tuple[Loaded, TrainingReplies, Directions, Selection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients, comparisons and replies: no forward of the search carries more prompts."""
    monkeypatch.setattr(stages, "REFUSAL_WEIGHTS", (0.5,))
    loaded, *rest = training_replies
    asked = replace(loaded, options=replace(loaded.options, batch_size=8))
    with rows_of(loaded.model) as rows:
        optimise(asked, *rest, SILENT)
    assert max(rows) == 8


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        (stages, "REFUSAL_WEIGHTS", (0.5, 0.1)),
        (stages, "STEPS", 5),
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


@pytest.mark.parametrize("changes", [{"batch_size": 4}, {"seed": 1}, {"sites": ("attn",)}])
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


def test_a_stale_state_is_left_alone(
    training_replies: tuple[Loaded, TrainingReplies, Directions, Selection],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search that is through is not run again; with another constant it is."""
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path))
    monkeypatch.setattr(stages, "REFUSAL_WEIGHTS", (0.5,))
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


def test_processes_share_items_and_put_them_together() -> None:
    parts = [Processes(rank, 3).own(range(8)) for rank in range(3)]
    assert parts == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert Processes().gather([1, 2]) == [1, 2]


def test_two_processes_find_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch` on two CPU processes: half the tokens each, and the same front, to rounding of float32."""
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "one"))
    alone = run(options(tmp_path / "alone", optimize=True, dtype="float32")).manifest["search"]
    script = tmp_path / "short.py"
    script.write_text(
        "import torch\nfrom abliterate import cli\nfrom abliterate.search import stages\n"
        f"torch.backends.mkldnn.enabled = {torch.backends.mkldnn.enabled}\n"  # the kernels of the one process
        f"stages.REFUSAL_WEIGHTS, stages.STEPS = {stages.REFUSAL_WEIGHTS}, {stages.STEPS}\ncli.main()\n"
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
        stages.search(llama, tokenizer, architecture, random_edit(architecture), SearchData([], [], [], [], []))


def test_a_loss_that_is_added_is_summed_by_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the divergence at half its weight again is as much as the divergence alone, twice."""
    edit_losses, architecture = ruler_of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32))
    edit = random_edit(architecture)
    settings_before = stages.search_settings()
    answers = edit_losses.states(ANSWERS)
    with stages.frozen(edit_losses.model):
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
