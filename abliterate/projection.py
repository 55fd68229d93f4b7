"""The algebra of directions: pure functions on tensors, and the only place where it is written.

One kernel, `project_out`, serves hooks on a live model, weights in memory, shards on disk and
adapters. Weight arithmetic is float32 whatever the storage type, with one cast back at the end.
Sources: Arditi et al. 2024, arXiv 2406.11717, section 2.4 (ablation) and appendix (weights).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.errors import InputError

BLOCK = 1 << 23
"""Numbers in one block of weight arithmetic: 32 MiB in float32."""

ZERO_LENGTH = 1e-12
"""A vector shorter than this has no direction: below any float32 difference of real activations."""


def normalize(vector: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Return the unit vector along each row's last axis. Raises InputError for zero or not finite rows."""
    length: Tensor = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    if not bool(torch.isfinite(length).all()):
        raise InputError("a direction holds NaN or infinity; check the weights and activations that it came from")
    if bool((length < ZERO_LENGTH).any()):
        raise InputError("a direction has zero length; harmful and harmless prompts give the same activations")
    return vector / length


def orthonormal_basis(vectors: Float[Tensor, "k d_model"]) -> Float[Tensor, "k d_model"]:
    """Return `k` orthonormal rows that span the rows of `vectors`, in float32; the first keeps its sign.

    Raises InputError when the rows are linearly dependent.
    """
    rows = normalize(vectors.double())
    # QR of the transposed: columns of q span the rows; signs are fixed so that the result is continuous.
    q, triangle = torch.linalg.qr(rows.T)
    diagonal = triangle.diagonal()
    if bool((diagonal.abs() < 1e-6).any()):
        raise InputError(f"the {len(rows)} directions are linearly dependent; give fewer")
    basis: Tensor = (q * diagonal.sign()).T.float().contiguous()
    return basis


def project_out(
    matrix: Float[Tensor, "..."], basis: Float[Tensor, "*k d_model"], strength: float = 1.0, axis: int = -1
) -> Float[Tensor, "..."]:
    """Remove `strength` times the component along `basis` from every vector of `matrix` along `axis`.

    `W <- W - s R^T (R W)`. `basis` is one unit vector `[d_model]` or `k` orthonormal rows `[k, d_model]`;
    `matrix.shape[axis]` is `d_model`. Computed in float32, block by block, returned in the dtype of `matrix`.
    Raises InputError when that axis is not as long as the basis.
    """
    rows = checked_rows(matrix, basis, axis)
    edited = torch.empty_like(matrix)
    for source, target in zip(blocks(matrix, axis), blocks(edited, axis), strict=True):
        vectors = source.float()
        target.copy_(vectors - strength * ((vectors @ rows.T) @ rows))
    return edited


def component(matrix: Float[Tensor, "..."], basis: Float[Tensor, "*k d_model"], axis: int = -1) -> float:
    """Return the Frobenius norm of the part of `matrix` that lies along `basis`, summed in float64."""
    rows = checked_rows(matrix, basis, axis)
    return math.sqrt(sum(float((block.float() @ rows.T).double().square().sum()) for block in blocks(matrix, axis)))


def frobenius(matrix: Float[Tensor, "..."]) -> float:
    """Return the Frobenius norm, summed in float64."""
    return math.sqrt(sum(float(block.double().square().sum()) for block in blocks(matrix, -1)))


def checked_rows(
    matrix: Float[Tensor, "..."], basis: Float[Tensor, "*k d_model"], axis: int
) -> Float[Tensor, "k d_model"]:
    """Return the basis as float32 rows beside `matrix`. Raises InputError when `axis` is not as long."""
    rows = basis.reshape(-1, basis.shape[-1]).to(matrix.device, torch.float32)
    if matrix.shape[axis] != rows.shape[-1]:
        raise InputError(
            f"axis {axis} of a tensor of shape {tuple(matrix.shape)} is not the residual stream: "
            f"the direction has d_model {rows.shape[-1]}"
        )
    return rows


def blocks(matrix: Float[Tensor, "..."], axis: int) -> Iterator[Float[Tensor, "... d_model"]]:
    """Yield views of `matrix` with `axis` last, of at most `BLOCK` numbers (but whole vectors) each.

    Float32 copies of a large embedding would take many times its bytes; of a block they take little.
    """
    vectors = matrix.movedim(axis, -1)
    if vectors.dim() < 2 or vectors.numel() <= BLOCK:
        yield vectors
        return
    step = max(1, BLOCK * len(vectors) // vectors.numel())
    yield from torch.split(vectors, step)


def remove_component(
    vector: Float[Tensor, "*batch d_model"], other: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Return `d - (d·m)m` with `m = other/|other|`, row by row: what `vector` has that `other` has not."""
    unit = normalize(other)
    return vector - (vector * unit).sum(-1, keepdim=True) * unit


def fold_gain(
    rows: Float[Tensor, "k d_model"], gain: Float[Tensor, " d_model"] | None, centred: bool = False
) -> Float[Tensor, "k d_model"]:
    """Return the vectors to look along *before* a norm with gain `g` for what lies along `rows` *behind* it, not normalised.

    The block adds `g * x / rms(x)`, so `r·(g*x) = (g*r)·x`. A LayerNorm also subtracts the mean of `x`,
    which turns `g*r` into `centre(g*r)` (`centred=True`).
    """
    folded = rows if gain is None else rows * gain.to(rows)
    return folded - folded.mean(dim=-1, keepdim=True) if centred else folded


def orthonormal_span(vectors: Float[Tensor, "k d_model"]) -> Float[Tensor, "k d_model"]:
    """Return orthonormal rows with the span of `vectors` in float32; what is dependent on rows before it becomes zero."""
    rows: list[Tensor] = []
    for vector in vectors.double():
        left = vector
        for row in (*rows, *rows):  # twice, so that rounding leaves no component of earlier rows
            left = left - (left @ row) * row
        length, before = left.norm(), vector.norm()
        rows.append(left / length if length > 1e-6 * before and before > ZERO_LENGTH else torch.zeros_like(left))
    return torch.stack(rows).float()


def low_rank_factors(
    matrix: Float[Tensor, "d_model d_in"], basis: Float[Tensor, "*k d_model"], strength: float = 1.0
) -> tuple[Float[Tensor, "d_model k"], Float[Tensor, "k d_in"]]:
    """Return `(B, A)` with `project_out(matrix, basis, strength, axis=0) == matrix + B @ A`: a LoRA of rank k, no SVD."""
    rows = basis.reshape(-1, basis.shape[-1]).to(matrix.device, torch.float32)
    return -strength * rows.T, rows @ matrix.float()
