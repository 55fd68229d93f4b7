from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from transformers import PreTrainedModel

from abliterate.activations.capture import Activations
from abliterate.architectures.architecture import find_architecture
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.directions.directions import Directions
from abliterate.edits.in_place import orthogonalize
from abliterate.edits.plan import make_plan
from abliterate.errors import InputError
from abliterate.exports.control_vector import write_control_vector
from abliterate.interventions import (
    Condition,
    ablated,
    ablated_rows,
    added,
    added_rows,
    affine,
    mean_component,
    rows_where,
)
from abliterate.interventions.hook_form import hook_form
from abliterate.interventions.recipe import Recipe
from abliterate.projection import (
    Mixing,
    component,
    fold_gain,
    low_rank_factors,
    normalize,
    orthonormal_basis,
    orthonormal_span,
    project_out,
    remove_component,
    span_edit,
)
from abliterate.training.keep_out import KeepDirectionOut
from fixtures.gguf_adapters import tensors
from fixtures.models import random_model
from fixtures.wrapped import SILENT, TOKENS, hook_count, logits, residue, unchanged, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # peft asks transformers
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tied.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
]
dimensions = st.integers(3, 40)
ranks = st.integers(1, 3)
seeds = st.integers(0, 2**31)
strengths = st.floats(-2, 2, allow_nan=False, width=32)


def case(d_model: int, rank: int, seed: int, rows: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(rows, d_model), orthonormal_basis(torch.randn(min(rank, d_model), d_model))


def test_shapes_are_checked_in_all_tests() -> None:
    """As `tests/conftest.py` has it: what an annotation does not hold of is an error."""
    with pytest.raises(TypeCheckError):
        project_out(torch.ones(3, 4, dtype=torch.int64), torch.ones(4))


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


def mixing_of(rank: int, seed: int) -> Mixing:
    return Mixing.of(torch.randn(rank, rank, generator=torch.Generator().manual_seed(seed)))


@given(dimensions, ranks, seeds, st.sampled_from([0, 1, 2]))
def test_a_mixing_takes_its_part_of_the_components_whatever_the_axis(
    d_model: int, rank: int, seed: int, axis: int
) -> None:
    _, basis = case(d_model, rank, seed)
    mixing = mixing_of(len(basis), seed)
    tensor = torch.randn(2, 3, d_model)
    edited = project_out(tensor, basis, mixing)
    expected = tensor - tensor @ basis.T @ torch.tensor(mixing.numbers).T @ basis
    assert torch.allclose(edited, expected, atol=1e-4)
    assert torch.equal(project_out(tensor.movedim(-1, axis), basis, mixing, axis), edited.movedim(-1, axis))
    contiguous = tensor.movedim(-1, axis).contiguous()
    assert torch.allclose(project_out(contiguous, basis, mixing, axis), edited.movedim(-1, axis), atol=1e-4)
    assert project_out(tensor.bfloat16(), basis, mixing).dtype == torch.bfloat16


@given(dimensions, ranks, seeds)
def test_low_rank_factors_hold_a_mixing(d_model: int, rank: int, seed: int) -> None:
    matrix, basis = case(d_model, rank, seed)
    mixing = mixing_of(len(basis), seed)
    b, a = low_rank_factors(matrix.T, basis, mixing)
    assert b.shape[1] == a.shape[0] == len(basis)
    assert torch.allclose(matrix.T + b @ a, project_out(matrix.T, basis, mixing, axis=0), atol=1e-4)


def independent(rank: int, d_model: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows at random angles, strengths for them, and some vectors, all float64."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(rank, d_model, generator=generator, dtype=torch.float64)
    strengths = 2 * torch.rand(rank, generator=generator, dtype=torch.float64)
    return vectors, strengths, torch.randn(7, d_model, generator=generator, dtype=torch.float64)


@given(st.integers(6, 40), ranks, seeds)
def test_each_vector_loses_its_share_although_they_are_not_orthogonal(d_model: int, rank: int, seed: int) -> None:
    vectors, strengths, stream = independent(rank, d_model, seed)
    rows, mixing = span_edit(vectors, strengths)
    edited = stream - stream @ rows.double().T @ mixing.double().T @ rows.double()
    size = stream.norm() * vectors.norm() / torch.linalg.svdvals(normalize(vectors)).min()
    before = stream @ vectors.T
    assert float((edited @ vectors.T - (1 - strengths) * before).abs().max()) < 1e-5 * float(size)
    outside = stream - stream @ rows.double().T @ rows.double()
    assert torch.allclose(edited - edited @ rows.double().T @ rows.double(), outside, atol=1e-4)


@given(st.integers(6, 40), ranks, seeds)
def test_the_order_of_directions_decides_nothing(d_model: int, rank: int, seed: int) -> None:
    vectors, strengths, _ = independent(rank, d_model, seed)

    def change(vectors: torch.Tensor, strengths: torch.Tensor) -> torch.Tensor:
        rows, mixing = span_edit(vectors, strengths)
        return rows.double().T @ mixing.double() @ rows.double()

    limit = 1e-5 / float(torch.linalg.svdvals(normalize(vectors)).min())
    turned = change(vectors.flip(0), strengths.flip(0))
    assert float((change(vectors, strengths) - turned).abs().max()) < limit
    same = change(vectors, torch.full_like(strengths, 0.5))
    span = orthonormal_span(vectors).double()
    assert float((same - 0.5 * span.T @ span).abs().max()) < limit


def test_vectors_that_are_one_and_the_same_take_one_strength() -> None:
    row, other = torch.randn(2, 8, dtype=torch.float64)
    rows, mixing = span_edit(torch.stack([row, other, 2 * row]), torch.tensor([0.5, 1.0, 0.5]))
    left = row - row @ rows.double().T @ mixing.double().T @ rows.double()
    assert float(left @ row) == pytest.approx(0.5 * float(row @ row), rel=1e-5)
    with pytest.raises(InputError, match="one and the same; give them one strength"):
        span_edit(torch.stack([row, 2 * row]), torch.tensor([0.5, 1.0]))


def test_dependent_directions_are_refused() -> None:
    row = torch.randn(8)
    with pytest.raises(InputError, match="linearly dependent"):
        orthonormal_basis(torch.stack([row, 2 * row]))


Use = Callable[[PreTrainedModel, torch.Tensor], Any]


def inside(context: AbstractContextManager[Any], model: PreTrainedModel) -> torch.Tensor:
    with context:
        return logits(model)


def kept_out(model: PreTrainedModel, direction: torch.Tensor) -> torch.Tensor:
    callback = KeepDirectionOut(direction)
    callback.begin(model)
    return logits(model)


def planned(model: PreTrainedModel, direction: torch.Tensor, recipe: Recipe | None = None) -> torch.Tensor:
    """The weights of a checkpoint as a plan edits them."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        checkpoint = Checkpoint.open(Path(folder))
        plan = make_plan(recipe or Recipe.uniform(), direction, find_architecture(model), model, checkpoint)
        return torch.cat([edit.expected(checkpoint).flatten() for edit in plan.edits.values()])


def written(model: PreTrainedModel, vector: torch.Tensor) -> torch.Tensor:
    """What a control vector file adds to the stream."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "vector.gguf"
        try:
            write_control_vector({2: vector}, model.config, out)
        finally:
            assert not list(Path(folder).iterdir()) or out.is_file()
        return torch.tensor(tensors(out)["direction.1"])


def hooked(model: PreTrainedModel, direction: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    return inside(hook_form(model, direction, recipe, find_architecture(model)), model)


RESID = torch.randn(6, 1, 5, 48, generator=torch.Generator().manual_seed(3))
ENTRIES: dict[str, Use] = {
    "ablated": lambda model, r: inside(ablated(model, r), model),
    "ablated_rows": lambda model, r: inside(ablated_rows(model, r[None, None]), model),
    "affine": lambda model, r: inside(affine(model, r, 3.0), model),
    "affine, rows": lambda model, r: inside(affine(model, r.expand(3, -1), 3.0), model),
    "condition": lambda model, r: inside(added(model, torch.ones(48), 2, when=Condition(r, 2, 0.1)), model),
    "rows_where": lambda model, r: rows_where(model, Condition(r, 2, 0.1), TOKENS).float(),
    "mean_component": lambda model, r: mean_component(Activations(RESID, (-1,)), r),
    "orthogonalize": lambda model, r: logits(orthogonalize(model, r)),
    "KeepDirectionOut": kept_out,
    "hook_form": lambda model, r: hooked(model, r, Recipe.uniform(0.5)),
    "hook_form, adding": lambda model, r: hooked(model, r, Recipe.adding(3.0, 2)),
    "make_plan": planned,
}
LENGTHS: dict[str, Use] = {
    "added": lambda model, r: inside(added(model, r, 2), model),
    "added_rows": lambda model, r: inside(added_rows(model, r[None], [2]), model),
    "write_control_vector": written,
}
"""Where the length of the vector is what is added."""


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_any_positive_multiple_is_the_same_direction(name: str, direction: torch.Tensor) -> None:
    expected = ENTRIES[name](random_model("llama"), direction)
    for factor in (2.0, 0.37, 1e6, 1e-6):
        found = ENTRIES[name](random_model("llama"), factor * direction)
        assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    double = ENTRIES[name](random_model("llama"), 2 * direction.to(torch.bfloat16))
    assert torch.allclose(double, expected, atol=0.1 * float(expected.abs().max()))


def test_rows_of_any_length_and_angle_remove_their_span(llama: PreTrainedModel) -> None:
    rows = torch.randn(2, 48)
    askew = torch.stack([3 * rows[0], rows[0] + 0.1 * rows[1]])
    for one in rows:
        with ablated(llama, askew):
            assert residue(llama, one / one.norm()) < SILENT
    orthogonalize(llama, askew)
    KeepDirectionOut(rows).begin(llama)
    assert max(residue(llama, one / one.norm()) for one in rows) < SILENT
    with pytest.raises(InputError, match="linearly dependent"):
        orthogonalize(llama, torch.stack([rows[0], 2 * rows[0]]))


@pytest.mark.parametrize("name", sorted({*ENTRIES, *LENGTHS}))
@pytest.mark.parametrize(
    ("value", "message"), [(torch.nan, "NaN"), (torch.inf, "infinity"), (0.0, "zero length"), (None, "another model")]
)
def test_no_direction_is_refused_before_anything_is_changed(
    name: str, value: float | None, message: str, llama: PreTrainedModel, direction: torch.Tensor
) -> None:
    if name == "KeepDirectionOut":
        orthogonalize(llama, direction)
    before = weights(llama)
    if name == "added_rows" and value == 0.0:  # a vector of zeros leaves its rows alone
        assert torch.equal(LENGTHS[name](llama, 0 * direction), logits(llama))
        return
    if name == "write_control_vector" and value is None:
        message = "belongs to another model"
    vector = torch.ones(7) if value is None else 0 * direction if value == 0.0 else direction.clone()
    if value:
        vector[3] = value
    with pytest.raises(InputError, match=message):
        {**ENTRIES, **LENGTHS}[name](llama, vector)
    assert unchanged(llama, before)
    assert hook_count(llama) == 0


FOREIGN: dict[str, Callable[[], Any]] = {
    "a list": lambda: [0.5] * 48,
    "a list of rows": lambda: [[0.5] * 48],
    "an array": lambda: np.full(48, 0.5),
    "an array of doubles": lambda: np.full(48, 0.5, dtype=np.float64),
    "whole numbers": lambda: torch.arange(48),
    "truth values": lambda: torch.ones(48, dtype=torch.bool),
    "complex numbers": lambda: torch.ones(48, dtype=torch.complex64),
    "a text": lambda: "resid.2",
    "nothing": lambda: None,
    "one number": lambda: torch.tensor(0.5),
    "all directions": lambda: Directions(torch.ones(1, 5, 48), (-1,), "mean-difference"),
}
WHOLE: dict[str, Use] = {
    "ablated_rows": lambda model, r: inside(ablated_rows(model, r), model),
    "added_rows": lambda model, r: inside(added_rows(model, r, [2]), model),
    "affine, rows": lambda model, r: inside(affine(model, r, 3.0), model),
}
"""Entry points whose call above makes rows of a vector itself."""


def foreign_outcomes() -> list[str]:
    """Give every entry point what is no direction; return all that was neither refused in one line nor left alone."""
    faults = []
    for name, use in {**ENTRIES, **LENGTHS, **WHOLE}.items():
        model = random_model("llama")
        before = weights(model)
        for kind, make in FOREIGN.items():
            try:
                use(model, make())
                faults.append(f"{name}, {kind}: taken")
            except InputError as error:
                if "\n" in str(error) or not str(error):
                    faults.append(f"{name}, {kind}: {error}")
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
                faults.append(f"{name}, {kind}: {type(error).__name__}: {error}")
        if not unchanged(model, before) or hook_count(model):
            faults.append(f"{name}: the model changed")
    return faults


def test_what_is_no_direction_is_refused_in_one_line() -> None:
    """In a process whose types nobody checks, as a caller has it."""
    script = "import test_projection; print(*test_projection.foreign_outcomes(), sep='\\n', end='')"
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


@pytest.mark.parametrize("shape", [(2, 3, 48), (0, 48)])
def test_shapes_that_are_no_directions_are_refused(llama: PreTrainedModel, shape: tuple[int, ...]) -> None:
    before = weights(llama)
    for act in (ablated, orthogonalize, lambda model, vector: KeepDirectionOut(vector)):
        with pytest.raises(InputError, match="a direction has shape"), act(llama, torch.ones(shape)):  # type: ignore[attr-defined]
            pass
    assert unchanged(llama, before)


@pytest.mark.parametrize(
    ("enter", "message"),
    [
        (lambda model, r: added(model, r, 1, scale=torch.nan), "scale holds NaN or infinity"),
        (lambda model, r: affine(model, r, torch.nan), "target holds NaN or infinity"),
        (lambda model, r: ablated_rows(model, r[None, None], strengths=torch.tensor([torch.inf])), "strengths holds"),
        (lambda model, r: added(model, r, 1, when=Condition(r, 1, torch.nan)), "threshold holds NaN;"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(
    llama: PreTrainedModel, direction: torch.Tensor, enter: Callable[..., Any], message: str
) -> None:
    with pytest.raises(InputError, match=message), enter(llama, direction):
        pass
    assert hook_count(llama) == 0
