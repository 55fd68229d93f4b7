"""The proof on a live model: it tells a writer that was not found from numbers that are none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.commands.apply import apply
from abliterate.commands.verify import verify
from abliterate.edits.in_place import orthogonalize
from abliterate.edits.plan import make_plan
from abliterate.errors import InputError, ProofError
from abliterate.interventions import added
from abliterate.interventions.ablation import ablated
from abliterate.interventions.recipe import Recipe
from abliterate.models.source import load_tokenizer, resolve
from abliterate.proofs.stream import (
    StreamReport,
    check_reference,
    logit_difference,
    plain_sequences,
    reference,
    relative_component,
    requantised_note,
    streams,
    verify_stream,
)
from abliterate.training.healed import healed_components, prove_healed
from fixtures.checkpoints import snapshot
from fixtures.models import random_model
from fixtures.tiny_chat import TINY, options

SEQUENCES = [[5, 9, 17, 31, 44, 3], [8, 23, 61, 7, 90, 12]]
UP = "model.layers.2.mlp.up_proj.weight"


def spoilt(folder: Path, name: str = UP, value: float = math.nan) -> Path:
    """Write one number that is none into the tiny model, or into a checkpoint that is there."""
    folder.mkdir(exist_ok=True)
    for own, content in snapshot(TINY).items():
        if not (folder / own).exists():
            (folder / own).write_bytes(content)
    weights = load_file(folder / "model.safetensors")
    weights[name].view(-1)[7] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def directions(folder: Path) -> Path:
    row = torch.nn.functional.normalize(torch.randn(160, generator=torch.Generator().manual_seed(1)), dim=0)
    save_file({"resid.4": row}, folder / "directions.safetensors")
    return folder / "directions.safetensors"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_apply_names_the_layer_that_is_no_number(tmp_path: Path, value: float) -> None:
    source = spoilt(tmp_path / "spoilt", value=value)
    with pytest.raises(
        InputError, match=r"NaN or infinite at resid\[3\]; try --dtype float32, or check the checkpoint"
    ):
        apply(options(tmp_path / "out", model=str(source)), directions(tmp_path), None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [UP, "model.layers.2.mlp.down_proj.weight"])
def test_verify_names_the_tensor_that_holds_nan(tmp_path: Path, name: str) -> None:
    apply(options(tmp_path / "out"), directions(tmp_path), None)
    spoilt(tmp_path / "out", name)
    found = verify(str(TINY), tmp_path / "out", options(Path()))
    problems = {one.name: one.problem for one in found.verdicts if one.problem}
    assert set(problems) == {name}
    assert problems[name].endswith("the original: it holds NaN")


def test_a_stream_that_is_no_number_is_no_leak(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    architecture = find_architecture(llama)
    with torch.no_grad():
        llama.model.layers[1].mlp.up_proj.weight[0, 0] = math.inf
    for error in (InputError, ProofError):
        with pytest.raises(error, match=r"NaN or infinite at resid\[2\]"):
            relative_component(llama, architecture, direction[None], SEQUENCES, error)


def test_a_token_that_writes_nothing_has_no_component(direction: torch.Tensor) -> None:
    """0 of 0 is no NaN, which would be a writer that was not found."""
    model = random_model("llama", tie_word_embeddings=False)
    with torch.no_grad():
        model.model.embed_tokens.weight[5] = 0
    architecture = find_architecture(model)
    per_layer = relative_component(model, architecture, direction[None], SEQUENCES)
    assert all(map(math.isfinite, per_layer))
    assert logit_difference(*[streams(model, architecture, SEQUENCES)[0]] * 2) == 0


def test_large_activations_are_measured_as_small_ones_are(direction: torch.Tensor) -> None:
    stream = torch.randn(9, 48, generator=torch.Generator().manual_seed(0))
    other = stream + 0.1
    small, large = logit_difference(stream, other), logit_difference(stream * 1e30, other * 1e30)
    assert small == pytest.approx(large, rel=1e-5)


@pytest.mark.parametrize("layer", [0, 3])
def test_a_healed_weight_that_is_no_number_is_seen_in_any_place(
    llama: PreTrainedModel, direction: torch.Tensor, layer: int
) -> None:
    """The greatest of several numbers is not NaN where NaN comes later."""
    orthogonalize(llama, direction)
    before = healed_components(llama, find_architecture(llama), direction[None], Recipe.uniform())
    with torch.no_grad():
        llama.model.layers[layer].mlp.down_proj.weight[0, 0] = math.nan
    with pytest.raises(ProofError, match=rf"layers\.{layer}\.mlp\.down_proj\.weight: .*NaN"):
        prove_healed(llama, SEQUENCES, direction[None], Recipe.uniform(), before)


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


def test_padding_is_no_part_of_the_stream(llama: PreTrainedModel) -> None:
    architecture = find_architecture(llama)
    together = streams(llama, architecture, SEQUENCES)
    assert [len(one) for one in together] == [sum(map(len, SEQUENCES))] * 5
    alone = [streams(llama, architecture, [sequence])[3] for sequence in SEQUENCES]
    rows = {tuple(row.tolist()) for row in torch.cat(alone).round(decimals=2)}
    assert {tuple(row.tolist()) for row in together[3].round(decimals=2)} == rows


def test_the_component_is_a_share_between_none_and_all(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    architecture = find_architecture(llama)
    whole = relative_component(llama, architecture, torch.eye(48), SEQUENCES)
    assert whole == pytest.approx([1.0] * 5, abs=1e-5)
    with ablated(llama, direction):
        assert max(relative_component(llama, architecture, direction[None], SEQUENCES)) < 1e-6


def test_the_first_layer_that_leaks_is_named_and_nan_leaks() -> None:
    check_reference("x", [0.0, 1e-6], 1e-5)
    for values in ([0.0, 1.0, 2.0], [0.0, float("nan"), 0.0]):
        with pytest.raises(ProofError, match=r"leaks at resid\[1\]"):
            check_reference("leaks", values, 1e-5)


def test_a_proof_holds_up_to_its_limit() -> None:
    assert StreamReport("silence", (0.0, 1e-5), 1e-5).holds
    assert not StreamReport("silence", (0.0, 2e-5), 1e-5).holds
    assert StreamReport("silence", (3e-6, 1e-6), 1e-5, 0.5).to_json() == {
        "kind": "silence", "largest": 3e-6, "limit": 1e-5, "holds": True, "before": 0.5, "per_layer": [3e-6, 1e-6],
    }  # fmt: skip
    assert requantised_note(()) == ()


def test_the_difference_of_two_streams_is_relative_to_the_first() -> None:
    expected = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert logit_difference(expected, expected) == 0
    found = expected + torch.tensor([[0.0, 0.5], [0.0, 0.0]])  # a tenth of the first, nothing of the second
    assert logit_difference(expected, found) == pytest.approx((0.01 / 2) ** 0.5)
    assert logit_difference(7 * expected, 7 * found) == pytest.approx((0.01 / 2) ** 0.5)
