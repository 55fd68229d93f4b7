"""The main job on the bundled tiny chat model: it refuses, then it does not, and its harmless replies stay."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from abliterate.commands.apply import apply
from abliterate.commands.inspect import inspect
from abliterate.commands.verify import verify
from abliterate.directions.candidates import DEEPEST
from abliterate.errors import InputError, NoRefusalsError
from abliterate.pipeline.run import Result, run
from fixtures.tiny_chat import TINY, everything_on_the_disk, hashes, in_float32, options


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(options(tmp_path_factory.mktemp("run") / "edited"))


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
        "README.md", "abliterate.json", "chat_template.jinja", "config.json", "directions.safetensors",
        "generation_config.json", "harmful.txt", "harmless.txt", "model.safetensors", "observations.json", "recipe.json",
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


def test_a_layer_can_be_given(tmp_path: Path) -> None:
    one = run(options(tmp_path / "edited", layer=5, direction="mean-difference"))
    assert one.manifest["direction"]["layer"] == 5
    assert one.manifest["direction"]["method"] == "mean-difference"
    assert "--layer" in one.manifest["command"]


def test_any_other_strength_is_proved_against_the_hook_form(tmp_path: Path) -> None:
    one = run(options(tmp_path / "edited", layer=4, strength=0.5))
    assert one.measured.proof.kind == "agreement"
    assert one.measured.proof.largest < one.measured.proof.limit


def test_apply_repeats_the_edit_from_its_files(result: Result, tmp_path: Path) -> None:
    given = options(tmp_path / "again")
    applied = apply(given, result.out / "directions.safetensors", result.out / "recipe.json")
    assert hashes(applied.out)["model.safetensors"] == hashes(result.out)["model.safetensors"]
    assert applied.untouched == 74 - 17
    by_layer = replace(given, out=tmp_path / "by-layer", layer=result.manifest["direction"]["layer"])
    apply(by_layer, result.out / "directions.safetensors", None)
    assert hashes(by_layer.out)["model.safetensors"] == hashes(result.out)["model.safetensors"]


def test_apply_needs_to_know_which_direction(result: Result, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose one with --layer"):
        apply(options(tmp_path / "again"), result.out / "directions.safetensors", None)


def test_verify_accepts_what_was_written(result: Result) -> None:
    checked = verify(str(TINY), result.out, options(Path()))
    assert checked.holds
    assert tuple(verdict.report for verdict in checked.of_status("edited")) == result.measured.tensors


@pytest.mark.parametrize("name", ["model.layers.2.mlp.down_proj.weight", "model.layers.2.mlp.up_proj.weight"])
def test_verify_names_the_tensor_that_was_changed_behind_its_back(result: Result, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in result.out.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    tensors = load_file(copy / "model.safetensors")
    tensors[name][3, 5] += 0.5
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    checked = verify(str(TINY), copy, options(Path()))
    assert not checked.holds
    assert [verdict.name for verdict in checked.of_status("other")] == [name]


def test_inspect_reads_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((TINY / "config.json").read_text())
    one = inspect(options(Path(), model=str(tmp_path)))
    assert one.parameters == sum(tensor.numel() for tensor in load_file(TINY / "model.safetensors").values())
    assert one.architecture.tied


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
