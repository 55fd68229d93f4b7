"""Quantised checkpoints edited on disk and reloaded in transformers: the format stays, the stream is silent."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CompressedTensorsConfig,
    FineGrainedFP8Config,
    Mxfp4Config,
    PreTrainedModel,
)
from transformers.quantizers.auto import AutoHfQuantizer, AutoQuantizationConfig
from transformers.quantizers.quantizers_utils import should_convert_module

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.layers import decoder_layers
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.quantized_weight import quantized_weights
from abliterate.cli import main
from abliterate.commands.apply import apply
from abliterate.commands.verify import Verified, verify
from abliterate.edits.plan import make_plan
from abliterate.edits.tensor_edits import TensorReport, ValuesEdit
from abliterate.errors import InputError, ProofError
from abliterate.interventions.recipe import Recipe
from abliterate.models.loading import load_model, load_placed
from abliterate.models.offload import Offload, outside_of
from abliterate.models.source import resolve
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import run
from abliterate.proofs.stream import Reference, relative_component, streams, verify_stream
from abliterate.quantization.formats.registry import format_of
from abliterate.quantization.requantize import project_packed, requantize
from fixtures.checkpoints import write_index
from fixtures.quantized_models import TINY, quantise_checkpoint, random_checkpoint, save_direction

PAIRS = [
    ("llama", "fp8 tensor"),
    ("qwen3", "fp8 block"),
    ("qwen3", "compressed-tensors channel"),
    ("llama", "compressed-tensors block"),
    ("qwen3_moe", "fp8 powers of two"),
    ("qwen3_moe", "compressed-tensors tensor"),
    ("deepseek_v3", "fp8 block"),
    ("gpt_oss", "mxfp4"),
]
"""Families and formats: every format, experts one by one and stacked."""

QUICK_PAIRS = [PAIRS[1], PAIRS[5], PAIRS[7]]
"""One of each kind of scales: the others take seconds each."""

LOADERS: dict[str, Any] = {
    "fp8": FineGrainedFP8Config,
    "compressed-tensors": CompressedTensorsConfig,
    "mxfp4": Mxfp4Config,
}


def reloaded(folder: Path) -> PreTrainedModel:
    """Load a checkpoint in transformers as its documentation says, dequantised, in bfloat16."""
    method = json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You passed `quantization_config`")
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, quantization_config=LOADERS[method](dequantize=True), output_loading_info=True
        )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return model.eval()


def component_of(model: PreTrainedModel, direction: torch.Tensor) -> list[float]:
    tokens = torch.randint(3, 1600, (2, 24), generator=torch.Generator().manual_seed(0)).tolist()
    return relative_component(model, find_architecture(model), direction[None], tokens)


def options(model: Path, out: Path, **changes: Any) -> Options:
    return Options(str(model), out, device="cpu", **{"dtype": "bfloat16", **changes})


def raw(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor of a checkpoint with its dtype, shape and bytes."""
    checkpoint = Checkpoint.open(folder)
    return {
        name: (one.dtype, one.shape, bytes(checkpoint.read(name).reshape(-1).view(torch.uint8).numpy().data))
        for name, one in checkpoint.tensors.items()
    }


def header(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: 8 + int.from_bytes(content[:8], "little")]


@pytest.mark.parametrize(
    ("family", "name"),
    [pytest.param(*one, marks=[] if one in QUICK_PAIRS else pytest.mark.slow) for one in PAIRS],
)
def test_the_format_is_kept_and_the_reloaded_model_is_silent(family: str, name: str, tmp_path: Path) -> None:
    source = quantise_checkpoint(random_checkpoint(family, tmp_path / "source"), name)
    direction = save_direction(tmp_path / "directions.safetensors")
    before = raw(source)
    applied = apply(options(source, tmp_path / "out"), tmp_path / "directions.safetensors", None)
    assert raw(source) == before
    assert header(tmp_path / "out" / "model.safetensors") == header(source / "model.safetensors")
    assert (tmp_path / "out" / "config.json").read_bytes() == (source / "config.json").read_bytes()
    after, edited = raw(tmp_path / "out"), planned(source, direction)
    assert {key for key in before if before[key] != after[key]} <= edited
    assert max(component_of(reloaded(source), direction)) > 0.1
    assert max(component_of(reloaded(tmp_path / "out"), direction)) < 0.01
    assert_nothing_but_writers_changed(reloaded(source), reloaded(tmp_path / "out"))
    leaks = [one.leak for one in applied.tensors if one.leak]
    assert leaks
    assert max(leak.share for leak in leaks) < 0.01
    assert f"{len(leaks)} weights were quantised again" in applied.notes[0]
    again = verify(str(source), tmp_path / "out", options(source, Path()))
    assert reports(again) == applied.tensors
    assert len(again.of_status("untouched")) == len(before) - len(edited)
    assert len(again.of_status("edited")) == len(edited)


@pytest.mark.parametrize(("family", "name"), QUICK_PAIRS)
def test_a_quantised_model_streams_from_the_disk(family: str, name: str, tmp_path: Path) -> None:
    source = resolve(str(quantise_checkpoint(random_checkpoint(family, tmp_path / "source"), name)))
    empty = source.empty
    disk = dict.fromkeys(decoder_layers(empty), "disk")
    offload = Offload(dict.fromkeys(outside_of(empty), "cpu") | disk, tokens=4096)
    whole, streamed = (load_placed(source, torch.bfloat16, torch.device("cpu"), one) for one in (None, offload))
    architecture = find_architecture(whole)
    tokens = [[3, 4, 5, 6], [7, 8, 9]]
    for one, other in zip(streams(whole, architecture, tokens), streams(streamed, architecture, tokens), strict=True):
        assert torch.equal(one, other)


def reports(one: Verified) -> tuple[TensorReport, ...]:
    return tuple(verdict.report for verdict in one.verdicts if verdict.report)


def planned(source: Path, direction: torch.Tensor) -> set[str]:
    found = resolve(str(source))
    empty = found.empty
    return set(make_plan(Recipe.uniform(), direction, find_architecture(empty), empty, found.checkpoint).edits)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), PAIRS)
def test_edited_weights_in_bf16_load_in_transformers(family: str, name: str, tmp_path: Path) -> None:
    source = quantise_checkpoint(random_checkpoint(family, tmp_path / "source"), name)
    direction = save_direction(tmp_path / "directions.safetensors")
    out = tmp_path / "out"
    applied = apply(options(source, out, edited_dtype="bf16"), tmp_path / "directions.safetensors", None)
    assert not any(one.leak for one in applied.tensors)
    assert max(component_of(reloaded(out), direction)) < 0.01
    checked = verify(str(source), out, options(source, Path()))
    assert reports(checked) == applied.tensors
    assert checked.holds
    before, after = raw(source), raw(out)
    same = before.keys() & after.keys() - planned(source, direction)
    # A module is quantised as a whole: what goes into fused experts leaves its format with what comes out, and no more.
    assert all(before[key] == after[key] for key in same if ".experts." not in key)
    assert_nothing_but_writers_changed(reloaded(source), reloaded(out))
    assert all(after[one.name][0] == "BF16" for one in applied.tensors)
    with safe_open(out / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert_the_config_says_what_is_quantised(out, family)


def assert_nothing_but_writers_changed(before: PreTrainedModel, after: PreTrainedModel) -> None:
    writers = {
        f"{one.module}.{parameter.name}" for one in find_architecture(before).writers for parameter in one.parameters
    }
    for name, parameter in before.named_parameters():
        assert torch.equal(parameter, after.get_parameter(name)) is (name not in writers), name


def assert_the_config_says_what_is_quantised(out: Path, family: str) -> None:
    """What transformers would build for a GPU: it takes no module for quantised whose scales are not there, and vice versa."""
    config = AutoConfig.from_pretrained(out)
    on_disk = set(Checkpoint.open(out).tensors)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(out))
    quantizer = AutoHfQuantizer.from_config(AutoQuantizationConfig.from_dict(config.quantization_config))
    if family == "gpt_oss":
        listed = config.quantization_config["modules_to_not_convert"]
        for layer in range(3):
            converts = should_convert_module(f"model.layers.{layer}.mlp.experts", listed)
            assert converts is (f"model.layers.{layer}.mlp.experts.down_proj_blocks" in on_disk) is False
            assert f"model.layers.{layer}.mlp.experts.gate_up_proj" in on_disk
        return
    if config.quantization_config["quant_method"] == "compressed-tensors":
        quantizer.validate_environment()
    quantizer.preprocess_model(model)
    names = {name.removesuffix(".weight") for name in on_disk if name.endswith(".weight")}
    scaled = {name for name in names if {f"{name}.weight_scale_inv", f"{name}.weight_scale"} & on_disk}
    built = {
        name.rpartition(".")[0]
        for name, _ in model.named_parameters()
        if name.endswith(("weight_scale_inv", "weight_scale"))
    }
    experts = {name for name in scaled | built if ".experts" in name}
    assert scaled - experts == built - experts
    assert not {name for name in experts if "down_proj" in name}
    assert "lm_head" not in built


def test_scales_in_another_shard_and_the_index(tmp_path: Path) -> None:
    source = quantise_checkpoint(random_checkpoint("llama", tmp_path / "source"), "fp8 block")
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    scales = {name for name in tensors if name.endswith("_scale_inv")}
    parts = {"a.safetensors": tensors.keys() - scales, "b.safetensors": scales}
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, source / file, {"format": "pt"})
    write_index(source, {name: file for file, names in parts.items() for name in names})
    save_direction(tmp_path / "directions.safetensors")
    for changes in ({}, {"edited_dtype": "bf16"}):
        out = tmp_path / f"out{len(changes)}"
        apply(options(source, out, **changes), tmp_path / "directions.safetensors", None)
        reloaded(out)
        index = json.loads((out / "model.safetensors.index.json").read_text())
        held = Checkpoint.open(out).tensors
        assert set(index["weight_map"]) == set(held)
    assert index["metadata"]["total_size"] == sum(entry.nbytes for entry in held.values())


def test_blocks_that_do_not_divide_a_weight(tmp_path: Path) -> None:
    """As the 576 rows of DeepSeek-V3's kv_a_proj_with_mqa, which transformers cannot dequantise."""
    source = quantise_checkpoint(random_checkpoint("deepseek_v3", tmp_path / "source", kv_lora_rank=35), "fp8 block")
    direction = save_direction(tmp_path / "directions.safetensors")
    found = resolve(str(source))
    live = load_model(found, "float32", "cpu")
    for name, weight in quantized_weights(found.checkpoint).items():
        if ".experts." not in name:
            assert torch.equal(live.get_parameter(name), weight.dequantized())
    assert quantized_weights(found.checkpoint)["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"].shape() == (
        51,
        128,
    )
    with pytest.raises(InputError, match="cannot stream"):
        load_placed(found, torch.bfloat16, torch.device("cpu"), Offload({}, tokens=4096))
    applied = apply(options(source, tmp_path / "out"), tmp_path / "directions.safetensors", None)
    assert applied.proof.holds
    edited = load_model(found, "float32", "cpu", Checkpoint.open(tmp_path / "out"))
    assert max(component_of(live, direction)) > 0.1
    assert max(component_of(edited, direction)) < 0.002


def test_another_strength_agrees_with_the_hook_form(tmp_path: Path) -> None:
    source = quantise_checkpoint(random_checkpoint("gpt_oss", tmp_path / "source"), "mxfp4")
    save_direction(tmp_path / "directions.safetensors")
    applied = apply(options(source, tmp_path / "out", strength=0.5), tmp_path / "directions.safetensors", None)
    assert applied.proof.kind == "agreement"
    assert applied.proof.holds


def test_what_requantising_explains_is_allowed_and_no_more(tmp_path: Path) -> None:
    """In float32 rounding explains nothing: the limit is the measured leak. Rounding to nearest goes beyond it."""
    source = quantise_checkpoint(random_checkpoint("llama", tmp_path / "source", torch.float32), "fp8 block")
    direction = save_direction(tmp_path / "directions.safetensors")
    found = options(source, tmp_path / "out", dtype="float32")
    applied = apply(found, tmp_path / "directions.safetensors", None)
    assert applied.proof.largest < applied.proof.limit < 1e-3
    origin = resolve(str(source))
    empty = origin.empty
    architecture = find_architecture(empty)
    plan = make_plan(Recipe.uniform(), direction, architecture, empty, origin.checkpoint)
    edited = load_model(origin, "float32", "cpu", Checkpoint.open(tmp_path / "out"))
    tokens = Reference(((5, 6, 7, 8),), 0.3, None)
    verify_stream(edited, architecture, plan, tokens, torch.float32, applied.tensors)
    format = format_of(source)
    edit = plan.edits["model.layers.1.mlp.down_proj.weight"]
    assert format
    assert isinstance(edit, ValuesEdit)
    packed = edit.weight.read()
    from abliterate.projection import project_out
    from abliterate.quantization.dequantize import dequantize

    coarse = requantize(project_out(dequantize(packed, format), direction, axis=0), packed, format)
    edited.get_parameter(edit.name).data.copy_(dequantize(coarse, format))
    with pytest.raises(ProofError, match=r"still writes along the direction at resid\[2\]"):
        verify_stream(edited, architecture, plan, tokens, torch.float32, applied.tensors)
    quiet = dequantize(project_packed(packed, format, direction, axis=0), format)
    edited.get_parameter(edit.name).data.copy_(quiet)
    verify_stream(edited, architecture, plan, tokens, torch.float32, applied.tensors)


def test_too_much_that_comes_back_is_an_error_that_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = quantise_checkpoint(random_checkpoint("gpt_oss", tmp_path / "source"), "mxfp4")
    save_direction(tmp_path / "directions.safetensors")
    monkeypatch.setattr("abliterate.quantization.requantize.LEAK_LIMIT", 1e-4)
    with pytest.raises(
        ProofError, match=r"experts\.down_proj_blocks: .* came back .*; pass --edited-dtype bf16, or ship"
    ):
        apply(options(source, tmp_path / "out"), tmp_path / "directions.safetensors", None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight_scale_inv"]
)
def test_verify_names_the_tensor_that_was_changed(name: str, tmp_path: Path) -> None:
    source = quantise_checkpoint(random_checkpoint("llama", tmp_path / "source"), "fp8 block")
    save_direction(tmp_path / "directions.safetensors")
    apply(options(source, tmp_path / "out"), tmp_path / "directions.safetensors", None)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    tensors[name].view(torch.uint8)[0, 0] ^= 1
    save_file(tensors, tmp_path / "out" / "model.safetensors", {"format": "pt"})
    (other,) = verify(str(source), tmp_path / "out", options(source, Path())).of_status("other")
    assert (other.name, other.problem) == (name, "differs from what the plan makes of the original")


def test_a_dtype_that_applies_to_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = random_checkpoint("llama", tmp_path / "source")
    path = tmp_path / "directions.safetensors"
    save_direction(path)
    for dtype, words in (
        ("bf16", "the weights are not quantised; leave it out"),
        ("int3", "unknown; choose auto, bfloat16"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(
                ["apply", str(source), "--directions", str(path), "--out", str(tmp_path / "o"), "--edited-dtype", dtype]
            )
        assert caught.value.code == 2
        assert words in capsys.readouterr().err
    quantise_checkpoint(source, "fp8 block")
    with pytest.raises(InputError, match="no weight that the recipe edits is quantised"):
        apply(options(source, tmp_path / "o", sites=("embed",), edited_dtype="bf16"), path, None)
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_the_whole_run_on_a_quantised_chat_model(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in TINY.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    quantise_checkpoint(source, "fp8 block")
    given = {"harmful": str(TINY / "harmful.txt"), "harmless": str(TINY / "harmless.txt")}
    result = run(options(source, tmp_path / "out", dtype="auto", **given))
    assert result.measured.edited
    assert result.measured.original
    assert result.measured.original.harmful_refusals.value >= 0.95
    assert result.measured.edited.harmful_refusals.value <= 0.05
    assert "16 weights were quantised again" in result.notes[0]
    leaks = [one["leak"]["missed"] / one["leak"]["before"] for one in result.manifest["tensors"] if one["leak"]]
    assert len(leaks) == 16
    assert max(leaks) < 0.01
    assert result.manifest["edited_dtype"] is None
