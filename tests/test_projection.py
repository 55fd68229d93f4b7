from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from abliterate.errors import InputError
from abliterate.projection import (
    component,
    fold_gain,
    low_rank_factors,
    normalize,
    orthonormal_basis,
    orthonormal_span,
    project_out,
    remove_component,
)

dimensions = st.integers(3, 40)
ranks = st.integers(1, 3)
seeds = st.integers(0, 2**31)
strengths = st.floats(-2, 2, allow_nan=False, width=32)


def case(d_model: int, rank: int, seed: int, rows: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(rows, d_model), orthonormal_basis(torch.randn(min(rank, d_model), d_model))


@given(dimensions, ranks, seeds)
def test_basis_is_orthonormal_and_keeps_the_first_direction(d_model: int, rank: int, seed: int) -> None:
    torch.manual_seed(seed)
    vectors = torch.randn(min(rank, d_model), d_model)
    basis = orthonormal_basis(vectors)
    assert torch.allclose(basis @ basis.T, torch.eye(len(basis)), atol=1e-5)
    assert torch.allclose(basis[0], normalize(vectors[0]), atol=1e-5)


@given(dimensions, ranks, seeds)
def test_strength_one_is_silent_and_idempotent(d_model: int, rank: int, seed: int) -> None:
    matrix, basis = case(d_model, rank, seed)
    once = project_out(matrix, basis)
    assert float(component(once, basis)) < 1e-5
    assert torch.allclose(project_out(once, basis), once, atol=1e-5)


@given(dimensions, ranks, seeds, strengths)
def test_the_complement_is_left_alone(d_model: int, rank: int, seed: int, strength: float) -> None:
    matrix, basis = case(d_model, rank, seed)
    complement = project_out(matrix, basis)
    assert torch.allclose(project_out(complement, basis, strength), complement, atol=1e-4)


@given(dimensions, seeds, strengths)
def test_strength_scales_the_component(d_model: int, seed: int, strength: float) -> None:
    matrix, basis = case(d_model, 1, seed)
    edited = project_out(matrix, basis, strength)
    assert torch.allclose(edited @ basis.T, (1 - strength) * (matrix @ basis.T), atol=1e-4)


@given(dimensions, ranks, seeds, strengths, st.integers(0, 2))
def test_the_axis_says_where_the_residual_is(d_model: int, rank: int, seed: int, strength: float, axis: int) -> None:
    _, basis = case(d_model, rank, seed)
    tensor = torch.randn(2, 3, d_model)
    moved = tensor.movedim(-1, axis)
    assert torch.equal(
        project_out(moved, basis, strength, axis), project_out(tensor, basis, strength).movedim(-1, axis)
    )


@given(dimensions, ranks, seeds, strengths)
def test_low_rank_factors_are_the_edit(d_model: int, rank: int, seed: int, strength: float) -> None:
    matrix, basis = case(d_model, rank, seed)
    weight = matrix.T
    b, a = low_rank_factors(weight, basis, strength)
    assert a.shape[0] == len(basis)
    assert torch.allclose(weight + b @ a, project_out(weight, basis, strength, axis=0), atol=1e-4)


@given(dimensions, seeds, st.booleans())
def test_folded_gain_silences_what_comes_out_of_the_norm(d_model: int, seed: int, centred: bool) -> None:
    matrix, basis = case(d_model, 1, seed)
    gain = torch.rand(d_model) + 0.5
    before = project_out(matrix, orthonormal_span(fold_gain(basis, gain, centred)))
    inside = before - before.mean(-1, keepdim=True) if centred else before
    scale = inside.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    assert float((gain * inside / scale @ basis.T).abs().max()) < 1e-4


@given(dimensions, seeds)
def test_removed_component_is_gone(d_model: int, seed: int) -> None:
    matrix, _ = case(d_model, 1, seed)
    left = remove_component(matrix.double(), matrix.flip(0).double())
    assert float((left * normalize(matrix.flip(0).double())).sum(-1).abs().max()) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    matrix, basis = case(16, 1, 0)
    assert project_out(matrix.to(dtype), basis).dtype == dtype


def test_a_wrong_axis_is_refused() -> None:
    with pytest.raises(InputError, match="not the residual stream"):
        project_out(torch.randn(4, 6), normalize(torch.randn(4)), axis=1)


@pytest.mark.parametrize(("vector", "message"), [(torch.zeros(4), "zero length"), (torch.full((4,), torch.nan), "NaN")])
def test_no_direction_is_refused(vector: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        normalize(vector)


def test_dependent_directions_are_refused() -> None:
    row = torch.randn(8)
    with pytest.raises(InputError, match="linearly dependent"):
        orthonormal_basis(torch.stack([row, 2 * row]))
