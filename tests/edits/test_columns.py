"""The form of an edit that keeps the length of what each input writes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from abliterate.edits import columns
from abliterate.edits.columns import project_columns
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import InputError
from abliterate.interventions import ablated
from abliterate.interventions.recipe import Recipe
from abliterate.projection import normalize, orthonormal_basis, project_out
from fixtures.wrapped import SILENT, lora, residue, unchanged, weights

COLUMNS = Recipe({"embed": 1.0, "attn": 1.0, "mlp": 1.0}, form="columns")
shapes = st.sampled_from([(12, 7, 0), (7, 12, 1), (12, 12, 0), (3, 12, 5, 1), (3, 5, 12, 2)])


def case(shape: tuple[int, ...], rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    *size, axis = shape
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator), orthonormal_basis(torch.randn(rank, 12, generator=generator)), axis


@given(shapes, st.integers(1, 3), st.integers(0, 2**31))
def test_it_is_silent_keeps_lengths_and_turns_no_further_than_needed(
    shape: tuple[int, ...], rank: int, seed: int
) -> None:
    weight, basis, axis = case(shape, rank, seed)
    edited = project_columns(weight, basis, axis)
    assert edited.shape == weight.shape
    vectors, before = edited.movedim(axis, -1), weight.movedim(axis, -1)
    assert float((vectors @ basis.T).abs().max()) < 1e-5 * float(weight.abs().max())
    assert torch.allclose(vectors.norm(dim=-1), before.norm(dim=-1), rtol=1e-5)
    assert torch.allclose(normalize(vectors), normalize(project_out(before, basis)), atol=1e-5)
    assert torch.allclose(project_columns(edited, basis, axis), edited, atol=1e-5)


def test_blocks_the_axis_and_the_dtype_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, basis, _ = case((12, 50, 0), 2, 3)
    edited = project_columns(weight, basis, 0)
    assert torch.equal(project_columns(weight.T, basis, 1), edited.T)
    monkeypatch.setattr(columns, "BLOCK", 24)
    assert torch.allclose(project_columns(weight, basis, 0), edited, atol=1e-6)
    half = project_columns(weight.bfloat16(), basis, 0)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), edited, atol=0.05)


def test_what_is_all_along_the_direction_is_not_made_of_rounding() -> None:
    _, basis, _ = case((12, 1, 0), 1, 4)
    edited = project_columns(7 * basis.T, basis, 0)
    assert float(edited.norm()) < 1e-4
    assert not project_columns(torch.zeros(12, 3), basis, 0).any()


def test_a_bias_is_projected() -> None:
    bias, basis = torch.randn(12), orthonormal_basis(torch.randn(2, 12))
    assert torch.equal(project_columns(bias, basis), project_out(bias, basis))


def test_a_model_is_silent_whatever_stands_behind_its_writers(model: PreTrainedModel, direction: torch.Tensor) -> None:
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert residue(orthogonalize(model, direction, COLUMNS), direction) < SILENT
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, plain[name])]
    assert changed


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft asks transformers
def test_a_weight_with_an_adapter_beside_it_is_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    adapted = lora(llama)
    before = weights(adapted)
    with pytest.raises(InputError, match=r"lora_B.*lengths are those of weight and adapter together; "):
        orthogonalize(adapted, direction, COLUMNS)
    assert unchanged(adapted, before)


def test_hooks_and_other_strengths_are_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    before = weights(llama)
    with pytest.raises(InputError, match="a hook holds projections only"), ablated(llama, direction, COLUMNS):
        pass
    for strengths in ({"mlp": 1.0}, {"embed": 1.0, "attn": 0.5, "mlp": 1.0}):
        with pytest.raises(InputError, match="the form columns of an edit removes all of the direction"):
            orthogonalize(llama, direction, Recipe(strengths, form="columns"))
    assert unchanged(llama, before)
