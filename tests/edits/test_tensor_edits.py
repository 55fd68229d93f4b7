"""One tensor edited: in blocks, or whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from abliterate import projection
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.edits.tensor_edits import AddedEdit, TensorEdit
from abliterate.projection import Pieces, Projection, normalize
from abliterate.proofs.tensors import verify_tensors
from fixtures.checkpoints import write_checkpoint
from fixtures.edits import BASIS, SHAPES, WIDTH, edit_of, edited, plan_of, small_blocks


@pytest.mark.parametrize(("shape", "axis"), [((6,), 0), ((3, 6), -1), ((6, 3), 0)])
def test_the_edit_adds_along_its_axis_alone(shape: tuple[int, ...], axis: int) -> None:
    vector = normalize(torch.randn(6))
    tensor = torch.randn(shape, dtype=torch.bfloat16)
    edited = AddedEdit("bias", "mlp", 0, axis, 2.5, vector[None]).apply(tensor)
    assert edited.dtype == tensor.dtype
    assert edited.shape == tensor.shape
    change = (edited.float() - tensor.float()).movedim(axis, -1).reshape(-1, 6)
    assert torch.allclose(change, 2.5 * vector.expand_as(change), atol=2e-2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_projection_never_holds_more_than_a_block(shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape).reshape(-1)
    with small_blocks():
        for axis in (axis for axis, length in enumerate(shape) if length == WIDTH):
            pieces, largest, position = Pieces.of(shape, BASIS, axis), 0, 0

            def load(first: int, last: int) -> torch.Tensor:
                nonlocal largest
                largest = max(largest, last - first)
                return tensor[first:last]

            for begin, end in pieces.spans():
                for start, result in pieces.project(load, begin, end, 1.0):
                    assert start == position
                    position += len(result)
            assert position == tensor.numel()
            assert largest <= projection.BLOCK


@dataclass(frozen=True)
class Doubled(TensorEdit):
    @property
    def projection(self) -> Projection | None:
        return None

    def apply(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * 2


@pytest.mark.usefixtures("threads")
def test_an_edit_that_is_no_projection_gets_the_whole_tensor(tmp_path: Path) -> None:
    tensor = torch.randn(9, WIDTH)
    source = Checkpoint.open(write_checkpoint(tmp_path / "source", {"w": tensor, "v": tensor}))
    plan = plan_of(Doubled("w", "mlp", 0, 1, 1.0, BASIS), edit_of("v", 1))
    result = edited(plan, source, tmp_path / "edited")
    assert torch.equal(result.read("w"), 2 * tensor)
    one, other = sorted(verify_tensors(plan, source, result), key=lambda report: report.name)
    assert (one.name, other.name) == ("v", "w")
    assert math.isclose(other.norm_after, 2 * other.norm_before, rel_tol=1e-6)
