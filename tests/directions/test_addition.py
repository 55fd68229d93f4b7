"""A model that refuses more: by its biases, by an adapter that brings one, and with every record that an edit has."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.activations.capture import capture
from abliterate.architectures.architecture import find_architecture
from abliterate.chat.sides import open_sides
from abliterate.cli import main
from abliterate.commands.apply import apply
from abliterate.commands.evaluate import evaluate
from abliterate.commands.export import export
from abliterate.commands.heal import heal
from abliterate.commands.reproduce import reproduce
from abliterate.commands.verify import verify
from abliterate.directions.addition import CONFIRMING, select_inducing, try_strengths
from abliterate.directions.files import load_differences
from abliterate.directions.methods import difference_in_means
from abliterate.edits.in_place import orthogonalize
from abliterate.edits.plan import make_plan
from abliterate.errors import InputError, ProofError
from abliterate.hub.push import finished_files
from abliterate.interventions import ablated, added
from abliterate.interventions.recipe import Recipe
from abliterate.models.generation import REPLY_TOKENS, generate
from abliterate.models.live_model import LiveModel
from abliterate.models.source import load_tokenizer, resolve
from abliterate.pipeline.contradictions import check_options
from abliterate.pipeline.evaluate_options import HARMLESS, EvaluateOptions
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.reproduce_options import ReproduceOptions
from abliterate.pipeline.run import Result, run
from abliterate.prompts.chat_format import ChatFormat
from abliterate.proofs.stream import plain_sequences, reference, verify_stream
from abliterate.replies.refusals import is_refusal
from abliterate.report.page import write_report
from fixtures.tiny_chat import TINY, everything_on_the_disk, options

QUICK = {"mode": "induce", "layer": 5, "strength": 0.7, "n_train": 32, "dtype": "float32"}
"""The place and the strength that the tiny model's own choice takes; one trial instead of many.

In float32, where both forms differ by nothing but the rounding of the bias that is written.
"""


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with biases in its MLPs, all of them zero: the same function in an architecture that has some."""
    folder = tmp_path_factory.mktemp("biased") / "tiny-biased"
    shutil.copytree(TINY, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "mlp_bias": True}))
    weights = load_file(folder / "model.safetensors")
    for layer in range(config["num_hidden_layers"]):
        widths = {
            "gate_proj": config["intermediate_size"],
            "up_proj": config["intermediate_size"],
            "down_proj": config["hidden_size"],
        }
        for name, width in widths.items():
            weights[f"model.layers.{layer}.mlp.{name}.bias"] = torch.zeros(width, dtype=torch.bfloat16)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def in_bias(biased: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(options(tmp_path_factory.mktemp("run") / "induced", model=str(biased), **QUICK))


@pytest.fixture(scope="module")
def by_adapter(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(options(tmp_path_factory.mktemp("run") / "induced", **QUICK))


def test_one_bias_changes_and_nothing_else(in_bias: Result, biased: Path) -> None:
    before, after = load_file(biased / "model.safetensors"), load_file(in_bias.out / "model.safetensors")
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["model.layers.4.mlp.down_proj.bias"]
    difference = load_differences(in_bias.out / "directions.safetensors")[5]
    assert torch.allclose(after[changed[0]].float(), 0.7 * difference, rtol=1e-2, atol=1e-3)
    assert in_bias.measured.proof.kind == "agreement"
    assert in_bias.measured.proof.holds
    assert in_bias.manifest["form"] == "checkpoint"


@pytest.mark.slow
def test_both_forms_make_more_refusals_and_the_same_ones(in_bias: Result, by_adapter: Result) -> None:
    for one in (in_bias, by_adapter):
        original, edited = one.measured.original, one.measured.edited
        assert original is not None
        assert edited is not None
        more = edited.harmless_refusals.count - original.harmless_refusals.count
        assert more > 0.5 * original.harmless_refusals.total
    replies = [[reply.text for reply in one.measured.edited.harmless] for one in (in_bias, by_adapter)]  # type: ignore[union-attr]
    same = sum(one == other for one, other in zip(*replies, strict=True))
    assert same >= 0.8 * len(replies[0])  # the bias is stored in bfloat16, the adapter in float32


@pytest.mark.slow
def test_without_a_bias_an_adapter_is_written_and_the_result_says_so(by_adapter: Result) -> None:
    assert by_adapter.manifest["form"] == "adapter"
    assert any("has no bias that could hold the vector" in note for note in by_adapter.notes)
    weights = load_file(by_adapter.out / "adapter_model.safetensors")
    (bias,) = (tensor for name, tensor in weights.items() if name.endswith("bias"))
    recipe = by_adapter.manifest["recipe"]
    assert float(bias.norm()) == pytest.approx(recipe["added"], rel=1e-4)
    assert not any(bool(tensor.any()) for name, tensor in weights.items() if not name.endswith("bias"))
    assert recipe == {"direction": "resid.5", "strengths": {}, "added": recipe["added"]}
    assert "adapter_config.json" in finished_files(by_adapter.out)
    assert "it is not merged" in by_adapter.manifest["undo"]


def test_the_proof_sees_a_vector_that_is_too_short(tmp_path: Path) -> None:
    """Beside the stream a tenth of the vector is small; beside the vector it is not."""
    source = resolve(str(TINY))
    empty = source.empty
    architecture = find_architecture(empty)
    direction = torch.nn.functional.normalize(torch.randn(160, generator=torch.Generator().manual_seed(0)), dim=0)
    plan = make_plan(Recipe.adding(12.0, 5), direction, architecture, empty, source.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.bfloat16)
    expected = reference(model, architecture, plan, plain_sequences(load_tokenizer(source)))
    with added(model, direction, 5, scale=12.0):
        assert verify_stream(model, architecture, plan, expected, torch.bfloat16).holds
    for wrong in (10.5, 13.5):
        with (
            added(model, direction, 5, scale=wrong),
            pytest.raises(ProofError, match=r"resid\[5\] moves by .* of the vector"),
        ):
            verify_stream(model, architecture, plan, expected, torch.bfloat16)


@pytest.mark.slow
def test_the_trials_are_on_record(by_adapter: Result) -> None:
    trials = by_adapter.manifest["trials"]
    assert {(one["layer"], one["strength"]) for one in trials} == {(5, 0.7)}
    assert [one["refused"] for one in trials] == sorted((one["refused"] for one in trials), reverse=True)
    assert trials[0]["position"] == by_adapter.manifest["direction"]["position"]
    assert by_adapter.manifest["selection"]["bypass"] is None
    card = (by_adapter.out / "README.md").read_text()
    assert "so that it refuses more" in card
    assert "refusal-induced" in card
    assert "abliterated\n" not in card
    assert "Strength 0.7" in card


def test_what_was_written_is_verified_from_its_files(in_bias: Result, biased: Path, tmp_path: Path) -> None:
    assert verify(str(biased), in_bias.out, options(tmp_path)).holds
    again = apply(
        options(tmp_path / "again", model=str(biased)),
        in_bias.out / "directions.safetensors",
        in_bias.out / "recipe.json",
    )
    assert (again.out / "model.safetensors").read_bytes() == (in_bias.out / "model.safetensors").read_bytes()


def test_a_changed_bias_is_not_as_planned(in_bias: Result, biased: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(in_bias.out, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.4.mlp.down_proj.bias"] *= 0.9
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    assert not verify(str(biased), broken, options(tmp_path)).holds


@pytest.mark.slow
def test_the_other_forms(in_bias: Result, by_adapter: Result, biased: Path, tmp_path: Path) -> None:
    adapter = export(ExportOptions(in_bias.out, "adapter"), options(tmp_path / "adapter", model=str(biased)))
    assert adapter.proof is not None
    assert adapter.proof.holds
    again = export(ExportOptions(by_adapter.out, "adapter"), options(tmp_path / "again"))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (again.out / name).read_bytes() == (by_adapter.out / name).read_bytes()
    vector = export(ExportOptions(by_adapter.out, "control-vector"), options(tmp_path / "vector.gguf"))
    assert vector.nbytes
    with pytest.raises(InputError, match="--to control-vector"):
        export(ExportOptions(by_adapter.out, "gguf-adapter"), options(tmp_path / "adapter.gguf"))
    with pytest.raises(InputError, match="has no bias that could hold what is added"):
        apply(options(tmp_path / "applied"), by_adapter.out / "directions.safetensors", by_adapter.out / "recipe.json")


@pytest.mark.slow
def test_it_is_measured_repeated_shown_and_talked_to(by_adapter: Result, tmp_path: Path) -> None:
    measured = evaluate(
        options(Path(), model=str(by_adapter.out)), EvaluateOptions(reply_tokens=24, n_prompts=20), str(TINY)
    )
    assert measured.against is not None
    assert measured.model.refusals(HARMLESS).count > measured.against.refusals(HARMLESS).count
    given = ReproduceOptions(model=str(TINY), harmful=str(TINY / "harmful.txt"), harmless=str(TINY / "harmless.txt"))
    assert reproduce(str(by_adapter.out), given, tmp_path / "again").same
    page = write_report(by_adapter.out).read_text()
    assert "added to resid.5, at every token" in page
    assert "Trials, the best first." in page
    assert 'id="strengths"' not in page
    assert 'id="tensors"' not in page


def test_a_biased_edit_is_chatted_with_as_hooks(in_bias: Result, biased: Path) -> None:
    sides = open_sides(options(Path(), model=str(in_bias.out), dtype="float32"), str(biased))
    assert "hooks" in sides.note
    original, edited = sides.sides
    tokens = torch.tensor([original.chat.encode(["What is the capital of France?"])[0]])
    with torch.no_grad():
        before = original.model(tokens).logits
        with edited.active():
            inside = edited.model(tokens).logits
        written = AutoModelForCausalLM.from_pretrained(in_bias.out, dtype=torch.float32)(tokens).logits
    assert float((inside - written).norm()) < 0.05 * float((before - written).norm())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimize": True}, "--optimize says how the direction is removed"),
        ({"sites": ("mlp",)}, "--sites says how the direction is removed"),
        ({"edited_dtype": "bf16"}, "--edited-dtype says how the direction is removed"),
        ({"save": ("checkpoint", "adapter")}, "writes one form"),
        ({"strength": 0.0}, "--strength 0 adds nothing"),
        ({"strength": float("inf")}, "--strength inf adds nothing"),
        ({"save": ("gguf-adapter",)}, "export the result --to control-vector"),
    ],
)
def test_flags_that_contradict(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        check_options(options(tmp_path / "out", mode="induce", **changes))


@pytest.mark.parametrize("changes", [{"mode": "induce"}, {"save": ("adapter",)}])
def test_an_adapter_needs_the_model_in_memory_and_says_so_at_once(
    changes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abliterate.models.loading.plan_offload", everything_on_the_disk)
    with pytest.raises(InputError, match="with an adapter it cannot stream from the disk; give more with --max-memory"):
        run(options(tmp_path / "out", **changes))
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_what_removes_refuses_a_recipe_that_adds(by_adapter: Result, in_bias: Result, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(TINY)
    direction = torch.nn.functional.normalize(torch.randn(160), dim=0)
    message = "this recipe adds the direction and removes nothing"
    with pytest.raises(InputError, match=message):
        orthogonalize(model, direction, Recipe.adding(1.0, 3))
    with pytest.raises(InputError, match=message), ablated(model, direction, Recipe.adding(1.0, 3)):
        pass
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"prompt": f"Count to {n}.", "completion": f"{n}"}) for n in range(8)))
    with pytest.raises(InputError, match=message):
        heal(str(in_bias.out), str(rows), tmp_path / "healed")


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(TINY), "--mode", "induce", "--layer", "5", "--strength", "0.5", "--n-train", "16"]
    sides = ["--harmful", str(TINY / "harmful.txt"), "--harmless", str(TINY / "harmless.txt")]
    with pytest.raises(SystemExit) as done:
        main([*words, *sides, "--out", str(tmp_path / "out")])
    assert done.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "0.5 times the difference in means" in shown
    with pytest.raises(SystemExit) as done:
        main([str(TINY), "--mode", "increase"])
    assert done.value.code == 2
    assert "--mode increase: choose among ablate, induce, harden" in capsys.readouterr().err


def test_inspect_says_what_would_hold_it(biased: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, line in (
        (TINY, "by an adapter on model.layers.0.mlp.down_proj (for resid[1], so on to resid[7]), which has no bias"),
        (biased, "by the bias of model.layers.0.mlp.down_proj (for resid[1], so on to resid[7])"),
    ):
        with pytest.raises(SystemExit):
            main(["inspect", str(folder)])
        assert line in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["inspect", str(biased), "--json"])
    assert json.loads(capsys.readouterr().out)["induce"][-1] == {
        "layer": 7, "module": "model.layers.6.mlp.down_proj", "bias": "bias",
    }  # fmt: skip


def test_without_peft_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        InputError,
        match=r"--mode induce, which writes an adapter for .*, needs peft, which is not installed: pip install ",
    ):
        run(options(tmp_path / "out", mode="induce"))
    assert not any(tmp_path.iterdir())


def test_places_are_ranked_by_induce_and_strengths_by_whole_replies() -> None:
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    chat = ChatFormat(tokenizer)
    sides = [(TINY / f"{side}.txt").read_text().splitlines()[:16] for side in ("harmful", "harmless")]
    directions = difference_in_means(*(capture(model, tokenizer, side) for side in sides))
    harmful, harmless = (chat.encode(side[:6]) for side in sides)
    opening = tuple(tokenizer("I", add_special_tokens=False)["input_ids"])
    live = LiveModel.of(model, chat)
    selection = select_inducing(live, directions, [opening], harmful, harmless, [2, 5, 7])
    assert {one.layer for one in selection.candidates} <= {2, 5}  # the last fifth is too deep where others are there
    induced = [one.induce for one in selection.candidates]
    assert induced == sorted(induced, reverse=True)
    assert selection.chosen is selection.candidates[0]
    assert selection.harmful > selection.harmless
    strengths = (0.0, 0.5)
    trials = try_strengths(live, directions, selection, harmful, harmless, strengths)
    assert [one.refused for one in trials] == sorted((one.refused for one in trials), reverse=True)
    asked = [*harmful[:CONFIRMING], *harmless[:CONFIRMING]]
    plain = tokenizer.batch_decode(generate(model, tokenizer, asked, REPLY_TOKENS))
    assert {(one.refused, one.prompts) for one in trials if one.strength == 0.0} == {(sum(map(is_refusal, plain)), 12)}
    assert trials[0].refused > sum(map(is_refusal, plain))
