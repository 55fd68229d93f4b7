"""The algebra of directions: pure functions on tensors, and the only place where it is written.

One kernel, `project_out`, serves hooks on a live model, weights in memory, shards on disk and
adapters. Weight arithmetic is float32 whatever the storage type, with one cast back at the end.
Sources: Arditi et al. 2024, arXiv 2406.11717, section 2.4 (ablation) and appendix (weights).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.errors import InputError

BLOCK = 1 << 18
"""Numbers in one block of weight arithmetic: few enough for a core's cache, as float32 and as stored."""

ACCELERATOR_BLOCK = 1 << 23
"""The same where memory is fast and every call is slow."""

SPAN = 1 << 23
"""Numbers in a part of a tensor that one thread works on, at least where it can be cut so small."""

CPU = torch.device("cpu")

ZERO_LENGTH = 1e-12
"""A vector shorter than this has no direction: below any float32 difference of real activations."""

UNIT = 1e-6
"""How far the length of a unit vector in float32 may be from 1."""

DEPENDENT = 1e-4
"""How far a component may be from what its strength makes of it, for vectors of length 1."""

COLUMNS = 1 << 15
"""Columns of a matrix whose factors are computed at once."""


@dataclass(frozen=True)
class Mixing:
    """What is removed of a vector with the components `c` along a basis whose rows have strengths of their own: `C c`."""

    numbers: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, matrix: Float[Tensor, "k k"]) -> Mixing:
        """Return the mixing `C`."""
        return cls(tuple(tuple(row) for row in matrix.detach().double().tolist()))


Amount = float | Mixing
"""How much of the components along a basis is removed: one strength for all, or as `span_edit` says."""


def normalize(vector: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Return the unit vector along each row's last axis. Raises InputError for zero or not finite rows."""
    length: Tensor = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    if not bool(torch.isfinite(length).all()):
        raise InputError("a direction holds NaN or infinity; check the weights and activations that it came from")
    if bool((length < ZERO_LENGTH).any()):
        raise InputError("a direction has zero length; harmful and harmless prompts give the same activations")
    return vector / length


def unit_rows(vectors: Float[Tensor, "..."], d_model: int | None = None) -> Float[Tensor, "k d_model"]:
    """Return a direction, or the rows of a basis, as orthonormal float32 rows: what every edit and measurement takes.

    Lengths do not count; rows that are not orthogonal become orthonormal ones with the same span. Rows that are so already
    stay as they are, to the last bit. Raises InputError for anything but one vector or rows of them, for another width
    than `d_model`, for NaN, infinity and zero, and for rows that depend on each other.
    """
    check_vectors(vectors, d_model)
    rows = vectors.reshape(-1, vectors.shape[-1])
    unit = each_unit(rows)
    products = unit.detach() @ unit.detach().T - torch.eye(len(unit), device=unit.device)
    return unit if float(products.abs().max()) < UNIT else orthonormal_basis(rows.float()).to(rows.device)


def each_unit(rows: Float[Tensor, "*rows d_model"], d_model: int | None = None) -> Float[Tensor, "*rows d_model"]:
    """Return each row, a direction of its own, at length 1 in float32; unit rows stay as they are, to the last bit.

    Raises InputError for another width than `d_model`, for NaN, infinity and zero.
    """
    check_vectors(rows, d_model)
    wide = rows.cpu().double()
    unit = normalize(wide)
    length = torch.linalg.vector_norm(wide.detach(), dim=-1, keepdim=True)
    own = rows.float()
    return torch.where(((length - 1).abs() < UNIT).to(own.device), own, unit.float().to(own.device))


def check_vectors(vectors: Float[Tensor, "..."], d_model: int | None) -> None:
    """Raise InputError for anything but one vector, or rows of them, that is as wide as the residual stream."""
    check_floats(vectors)
    if vectors.dim() not in (1, 2) or not vectors.numel():
        raise InputError(
            f"a direction has shape {tuple(vectors.shape)} and dtype {vectors.dtype}; "
            "give floats: one vector [d_model], or rows [k, d_model]"
        )
    check_width(vectors, d_model)


def check_vector(vector: Float[Tensor, " d_model"], d_model: int | None = None) -> None:
    """Raise InputError for anything but one vector of finite floats that is not zero: one whose length counts."""
    check_vectors(vector, d_model)
    if vector.dim() != 1:
        raise InputError(f"a vector has shape {tuple(vector.shape)}; give one, [d_model]")
    normalize(vector.detach().cpu().double())


def check_floats(vectors: object) -> None:
    """Raise InputError for what is no tensor of real floats: lists, arrays, whole numbers, texts, a set of directions."""
    if not isinstance(vectors, Tensor):
        raise InputError(
            f"a direction is of type {type(vectors).__name__}; give a tensor of floats, such as torch.tensor(values), or "
            "directions[layer]"
        )
    if not vectors.is_floating_point():
        raise InputError(
            f"a direction has shape {tuple(vectors.shape)} and dtype {vectors.dtype}; "
            "give floats: one vector [d_model], or rows [k, d_model]"
        )


def check_width(vectors: Float[Tensor, "*rows d_model"], d_model: int | None) -> None:
    """Raise InputError when vectors are no floats, or not as wide as the model's residual stream."""
    check_floats(vectors)
    if d_model is not None and (not vectors.dim() or vectors.shape[-1] != d_model):
        width = vectors.shape[-1] if vectors.dim() else 0
        raise InputError(f"the direction has d_model {width}, the model {d_model}; it belongs to another model")


def orthonormal_basis(vectors: Float[Tensor, "k d_model"]) -> Float[Tensor, "k d_model"]:
    """Return `k` orthonormal rows that span the rows of `vectors`, in float32 on the CPU; the first keeps its sign.

    Raises InputError when the rows are linearly dependent.
    """
    rows = normalize(vectors.cpu().double())
    # QR of the transposed: columns of q span the rows; signs are fixed so that the result is continuous.
    q, triangle = torch.linalg.qr(rows.T)
    diagonal = triangle.diagonal()
    if bool((diagonal.abs() < 1e-6).any()):
        raise InputError(f"the {len(rows)} directions are linearly dependent; give fewer")
    basis: Tensor = (q * diagonal.sign()).T.float().contiguous()
    return basis


def project_out(
    matrix: Float[Tensor, "..."], basis: Float[Tensor, "*k d_model"], strength: Amount = 1.0, axis: int = -1
) -> Float[Tensor, "..."]:
    """Remove `strength` times the component along `basis` from every vector of `matrix` along `axis`.

    `W <- W - s R^T (R W)`, or `W <- W - R^T C (R W)` where the strength is a mixing `C`. `basis` is one unit vector `[d_model]` or `k` orthonormal rows `[k, d_model]`;
    `matrix.shape[axis]` is `d_model`. Computed in float32, block by block, returned in the dtype of `matrix`.
    Raises InputError when that axis is not as long as the basis.
    """
    stored, pieces = in_pieces(matrix, basis, axis)
    edited = torch.empty_like(stored)
    source, target = stored.reshape(-1), edited.reshape(-1)
    for begin, end in pieces.spans():
        for start, result in pieces.project(lambda first, last: source[first:last], begin, end, strength):
            target[start : start + len(result)] = result
    return edited if pieces.inner > 1 else edited.movedim(-1, axis)


def component(matrix: Float[Tensor, "..."], basis: Float[Tensor, "*k d_model"], axis: int = -1) -> float:
    """Return the Frobenius norm of the part of `matrix` that lies along `basis`, its blocks summed in float64."""
    stored, pieces = in_pieces(matrix, basis, axis)
    source = stored.reshape(-1)
    parts = [pieces.measure(lambda first, last: source[first:last], *span)[1] for span in pieces.spans()]
    return math.sqrt(sum(parts))


def frobenius(matrix: Float[Tensor, "..."]) -> float:
    """Return the Frobenius norm, its blocks summed in float64."""
    return math.sqrt(sum(squared(block.float()) for block in torch.split(matrix.reshape(-1), BLOCK)))


def rounding_of(matrix: Float[Tensor, "..."]) -> float:
    """Return the Frobenius norm of the greatest error that rounding to its own dtype can leave in a matrix, at least."""
    kind = torch.finfo(matrix.dtype)
    return kind.eps * (frobenius(matrix) + kind.smallest_normal * math.sqrt(matrix.numel()))


@dataclass(frozen=True)
class Projection:
    """The edit of a tensor along one axis, as a function that can also be computed piece by piece (`Pieces`)."""

    basis: Float[Tensor, "*k d_model"]
    strength: Amount
    axis: int

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return the edited tensor, in its own dtype."""
        return project_out(tensor, self.basis, self.strength, self.axis)

    def pieces(self, shape: Sequence[int]) -> Pieces:
        """Return how a tensor of this shape, which lies on the CPU or on the disk row by row, is edited."""
        return Pieces.of(shape, self.basis, self.axis)


Load = Callable[[int, int], Tensor]
"""Gives the numbers from one to another of a tensor, flat, in the order in which they lie and in their own dtype."""


@dataclass(frozen=True)
class Pieces:
    """How the arithmetic on a tensor is cut: by its shape alone.

    So whoever repeats it, from memory or from the disk and in however many threads, gets the same bits.
    `inner` is the distance from one number of a vector to the next: 1 where vectors lie in one piece.
    """

    rows: Float[Tensor, "k d_model"]
    numbers: int
    inner: int
    block: int

    @classmethod
    def of(
        cls, shape: Sequence[int], basis: Float[Tensor, "*k d_model"], axis: int, device: torch.device = CPU
    ) -> Pieces:
        """Return the pieces of a contiguous tensor. Raises InputError when `axis` is not as long as the basis."""
        rows = checked_rows(shape, basis, axis, device)
        inner = math.prod(shape[axis % len(shape) + 1 :])
        # A block begins with a vector, or where vectors lie across with a number of each of them.
        whole = rows.shape[-1] if inner == 1 else max(1, inner)
        numbers = BLOCK if device.type == "cpu" else ACCELERATOR_BLOCK
        return cls(rows, math.prod(shape), inner, max(1, numbers // whole) * whole)

    def spans(self) -> list[tuple[int, int]]:
        """Return the parts, from one number to another, that can be computed independently of each other."""
        whole = self.block if self.inner == 1 else max(1, self.inner) * self.rows.shape[-1]
        step = max(1, SPAN // whole) * whole
        return [(begin, min(begin + step, self.numbers)) for begin in range(0, self.numbers, step)]

    def project(self, load: Load, begin: int, end: int, strength: Amount) -> Iterator[tuple[int, Tensor]]:
        """Compute the edit of a span; yield, in order, where a block begins and its numbers, in their own dtype."""
        factor, mixing = scale_and_mixing(strength, self.rows)
        if self.inner == 1:
            for start, stop, _ in self._blocks(begin, end):
                source = load(start, stop)
                vectors = source.to(torch.float32, copy=True).view(-1, self.rows.shape[-1])
                along = vectors @ self.rows.T
                along = along if mixing is None else along @ mixing.T
                yield start, vectors.addmm_(along, self.rows, alpha=-factor).to(source.dtype).view(-1)
            return
        for first, last in self._matrices(begin, end):
            along = self._along(load, first, last)[0]
            along = along if mixing is None else mixing @ along
            for start, stop, rows in self._blocks(first, last):
                source = load(start, stop)
                vectors = source.to(torch.float32, copy=True).view(-1, self.inner)
                yield start, vectors.addmm_(rows.T, along, alpha=-factor).to(source.dtype).view(-1)

    def measure(self, load: Load, begin: int, end: int) -> tuple[float, float]:
        """Return the squared Frobenius norms of a span and of its component along the basis."""
        parts = []
        if self.inner == 1:
            for start, stop, _ in self._blocks(begin, end):
                vectors = load(start, stop).float().view(-1, self.rows.shape[-1])
                parts.append((squared(vectors), squared(vectors @ self.rows.T)))
        else:
            for first, last in self._matrices(begin, end):
                along, norm = self._along(load, first, last)
                parts.append((norm, squared(along)))
        return sum(norm for norm, _ in parts), sum(part for _, part in parts)

    def _along(self, load: Load, first: int, last: int) -> tuple[Float[Tensor, "k inner"], float]:
        """Return `R W` of one matrix whose vectors lie across, and its squared norm."""
        along = torch.zeros(len(self.rows), self.inner, device=self.rows.device)
        norm = 0.0
        for start, stop, rows in self._blocks(first, last):
            vectors = load(start, stop).float().view(-1, self.inner)
            along.addmm_(rows, vectors)
            norm += squared(vectors)
        return along, norm

    def _matrices(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        step = self.inner * self.rows.shape[-1]
        yield from ((first, first + step) for first in range(begin, end, step))

    def _blocks(self, begin: int, end: int) -> Iterator[tuple[int, int, Float[Tensor, "k part"]]]:
        """Yield where the blocks of a span begin and end; for those of one matrix, the part of the basis beside each."""
        for start in range(begin, end, self.block):
            stop = min(start + self.block, end)
            yield start, stop, self.rows[:, (start - begin) // self.inner : (stop - begin) // self.inner]


def checked_rows(
    shape: Sequence[int], basis: Float[Tensor, "*k d_model"], axis: int, device: torch.device = CPU
) -> Float[Tensor, "k d_model"]:
    """Return the basis as float32 rows. Raises InputError when `axis` of a tensor of this shape is not as long."""
    rows = basis.reshape(-1, basis.shape[-1]).to(device, torch.float32)
    if shape[axis] != rows.shape[-1]:
        raise InputError(
            f"axis {axis} of a tensor of shape {tuple(shape)} is not the residual stream: "
            f"the direction has d_model {rows.shape[-1]}"
        )
    return rows


def in_pieces(
    matrix: Float[Tensor, "..."], basis: Float[Tensor, "*k d_model"], axis: int
) -> tuple[Float[Tensor, "..."], Pieces]:
    """Return a tensor in memory as it lies, and its pieces; with `axis` last where vectors lie in one piece."""
    vectors = matrix.movedim(axis, -1)
    if vectors.is_contiguous():
        return vectors, Pieces.of(vectors.shape, basis, -1, matrix.device)
    return matrix.contiguous(), Pieces.of(matrix.shape, basis, axis, matrix.device)


def squared(block: Float[Tensor, "..."]) -> float:
    """Return the squared Frobenius norm of one block: in float32, and where that overflows in float64."""
    flat = block.reshape(-1)
    total = float(torch.dot(flat, flat))
    return total if math.isfinite(total) else float(flat.cpu().double().square().sum())


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
    folded = rows if gain is None else rows * gain.cpu().to(rows)
    return folded - folded.mean(dim=-1, keepdim=True) if centred else folded


def orthonormal_span(vectors: Float[Tensor, "k d_model"]) -> Float[Tensor, "k d_model"]:
    """Return orthonormal rows with the span of `vectors` in float32 on the CPU; what depends on rows before it becomes zero."""
    rows: list[Tensor] = []
    for vector in vectors.cpu().double():
        left = vector
        for row in (*rows, *rows):  # twice, so that rounding leaves no component of earlier rows
            left = left - (left @ row) * row
        length, before = left.norm(), vector.norm()
        rows.append(left / length if length > 1e-6 * before and before > ZERO_LENGTH else torch.zeros_like(left))
    return torch.stack(rows).float()


def span_edit(
    vectors: Float[Tensor, "k d_model"], strengths: Float[Tensor, " k"]
) -> tuple[Float[Tensor, "k d_model"], Float[Tensor, "k k"]]:
    """Return orthonormal rows `Q` with the span of `vectors` and the mixing `C` that acts on each vector by its own strength.

    `x - Q^T C (Q x)` has, along each vector `v`, `1 - s` times the component that `x` has, and differs from `x` by as little
    as can be: with `V = L Q` and `V x' = (1 - S) V x`, that is `C = L^+ S L`. For orthonormal vectors `C` is `S`; for one
    strength `s` it is `s`, so the order of the vectors decides nothing. Gradients reach both.

    Raises InputError where vectors that depend on each other have strengths that differ: both cannot be had.
    """
    rows = orthonormal_span(vectors)
    wide, own = vectors.cpu().double(), strengths.cpu().double()
    wide = wide / wide.norm(dim=-1, keepdim=True).clamp_min(ZERO_LENGTH)
    lower = wide @ rows.double().T
    wanted = own[:, None] * lower
    mixing = torch.linalg.pinv(lower, rtol=1e-6) @ wanted
    if bool(((lower @ mixing - wanted).abs() > DEPENDENT).any()):
        raise InputError(
            "behind the gains of this model some of the directions are one and the same; give them one strength"
        )
    return rows, mixing.float()


def scale_and_mixing(strength: Amount, rows: Float[Tensor, "k d_model"]) -> tuple[float, Float[Tensor, "k k"] | None]:
    """Return the factor of what is removed along `rows` and what mixes their components before, if anything does."""
    if isinstance(strength, Mixing):
        return 1.0, torch.tensor(strength.numbers, dtype=rows.dtype, device=rows.device)
    return strength, None


def low_rank_factors(
    matrix: Float[Tensor, "d_model d_in"], basis: Float[Tensor, "*k d_model"], strength: Amount = 1.0
) -> tuple[Float[Tensor, "d_model k"], Float[Tensor, "k d_in"]]:
    """Return `(B, A)` with `project_out(matrix, basis, strength, axis=0) == matrix + B @ A`: a LoRA of rank k, no SVD.

    Some columns at a time are float32: an embedding has as many as there are tokens.
    """
    rows = basis.reshape(-1, basis.shape[-1]).to(matrix.device, torch.float32)
    factor, mixing = scale_and_mixing(strength, rows)
    back = rows.T if mixing is None else rows.T @ mixing
    return -factor * back, torch.cat([rows @ part.float() for part in torch.split(matrix, COLUMNS, dim=1)], dim=1)
