"""The algebra of quantised weights: read, projected and written again in their format, a few MiB at a time.

An edit moves a weight by about 1/sqrt(d_model) of its size, far less than half a step of these grids: rounding to
nearest puts most weights back where they were. Of the component along a direction that was projected out of random
weights, 96% come back in MXFP4 at width 2880 and 38% in FP8 at 4096 (`python benchmarks/quantised.py`). So
`requantize` is told the basis and rounds such that the sum along it comes out right (`_quiet`), which leaves below 0.2%.
Scales stay where they still fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from abliterate.errors import CheckpointError, InputError
from abliterate.projection import Amount, checked_rows, project_out
from abliterate.quantization.dequantize import finite, read_part
from abliterate.quantization.formats.base import Format, Packed
from abliterate.quantization.formats.grid import Grid, Part

LEAK_LIMIT = 0.1
"""The share of a component that may be left when a weight is quantised again."""

FURTHER, DOUBLINGS = 1.25, 12
"""The first factor in `_balanced`, over the excess of its column, and how often it is doubled where that is not enough."""

CLASSES = 64
"""Classes of a histogram in `_first_of`."""

TAIL_ROWS = 4.0
"""A size that normal numbers exceed once in 16,000 draws."""

ENOUGH = 2e-3
"""What may be left of a vector's component, over the usual one, without a further turn in `_quiet`."""


@dataclass(frozen=True)
class Leak:
    """What one weight has along the basis, in norms (Frobenius): `before` the edit, `projected` in float32, `stored`.

    `missed` is the part along the basis of the difference between stored and projected weight, `error` all of that
    difference. `usual` is what a basis that has nothing to do with the weight would find in it. `norm_before` and
    `norm_after` are those of the whole weight; `largest` is the greatest `missed` of one input's write vector, over
    the root mean square of such vectors: what an input alone can bring back, relative to what inputs write.
    """

    before: float
    projected: float
    stored: float
    missed: float
    error: float
    usual: float
    norm_before: float
    norm_after: float
    largest: float

    @property
    def share(self) -> float:
        """The share of the component that quantising again brought back."""
        return self.missed / self.before if self.before else math.inf if self.missed else 0.0

    @property
    def of_stream(self) -> float:
        """The largest share of what this weight writes that what came back can be, for any of a few thousand tokens.

        One input may outweigh the others and brings back `largest`; those bring back what inputs do in the mean, times
        a normal number.
        """
        return self.largest + TAIL_ROWS * self.missed / self.norm_after if self.norm_after else 0.0

    @property
    def too_much(self) -> bool:
        """Whether more than `LEAK_LIMIT` came back: of the component, or of the usual one where there was less than that."""
        return self.missed > LEAK_LIMIT * max(self.before, self.usual)


def requantize(
    tensor: Float[Tensor, "..."],
    like: Packed,
    format: Format,
    basis: Float[Tensor, "*k d_model"] | None = None,
    axis: int = -1,
) -> Packed:
    """Quantise `tensor`, laid out as `dequantize` gives it, with the dtypes and shapes of `like`.

    A scale is kept while its block reaches the upper half of the grid, and no further than half a step beyond it: what
    was not edited then stays bit for bit. Else it is the greatest number / 448, or the power of two next above that
    (in MXFP4 above the greatest number / 6: rounded up like triton_kernels' `downcast_to_mxfp`, which transformers
    calls; rounded down, as OCP has it, it would cut off up to a quarter). Numbers go to nearest, ties to even; with
    a `basis` along `axis` so that the sums along it become those of `tensor`, as nearly as the grid allows.
    Raises CheckpointError for NaN and infinity, InputError for another shape or an axis not as long as the basis.
    """
    grid, expected = format.grid(like), format.shape(like)
    if tuple(tensor.shape) != expected:
        raise InputError(
            f"tensor {like.name}: expected shape {expected}, found {tuple(tensor.shape)}; dequantise it first"
        )
    stored, along = format.stored(tensor, grid), format.stored_axis(like, axis)
    return _rewritten(like, format, lambda expert, part: stored[expert][part].float(), basis, along)


def project_packed(
    packed: Packed, format: Format, basis: Float[Tensor, "*k d_model"], strength: Amount = 1.0, axis: int = -1
) -> Packed:
    """Do `project_out` on a quantised weight: read, project in float32 and quantise again, a few MiB at a time.

    `axis` is that of the tensor that `dequantize` returns. Raises as `requantize`.
    """
    grid, along = format.grid(packed), format.stored_axis(packed, axis)
    return _rewritten(packed, format, _projected(packed, format, grid, basis, strength, along), basis, along)


def project_scales(
    packed: Packed, format: Format, basis: Float[Tensor, "*k d_model"], strength: Amount = 1.0, axis: int = -1
) -> Shaped[Tensor, "..."]:
    """Return the scales of `project_packed` alone, in a fraction of its time. Raises as `requantize`."""
    grid, along = format.grid(packed), format.stored_axis(packed, axis)
    read = _projected(packed, format, grid, basis, strength, along)
    scales = torch.empty_like(packed.scales)
    steps = scales.view(grid.counts)
    for expert in range(grid.experts):
        steps[expert] = _steps(packed, format, grid, read, expert, along)
    return scales


def measure_leak(
    before: Packed,
    after: Packed,
    format: Format,
    basis: Float[Tensor, "*k d_model"],
    strength: Amount = 1.0,
    axis: int = -1,
) -> Leak:
    """Compare the stored edit `after` with what `project_out` makes of `before`. Raises as `dequantize`."""
    grid, along = format.grid(before), format.stored_axis(before, axis)
    if (before.values.shape, before.scales.shape) != (after.values.shape, after.scales.shape):
        raise CheckpointError(f"tensor {after.name}: expected the shapes of the original, found others; edit it again")
    rows = basis.reshape(-1, basis.shape[-1])
    sums, greatest, vectors = [0.0] * 7, 0.0, 0
    for expert in range(grid.experts):
        for part in grid.parts(along):
            old, new = (read_part(one, format, grid, expert, part) for one in (before, after))
            rows = checked_rows(old.shape, basis, along)
            target = project_out(old, basis, strength, along)
            found = [each.movedim(along, -1) @ rows.T for each in (old, target, new, new - target)]
            squares = [float(each.double().square().sum()) for each in (*found, new - target, old, new)]
            sums = [a + b for a, b in zip(sums, squares, strict=True)]
            greatest = max(greatest, float(found[-1].norm(dim=-1).max()))
            vectors += len(found[-1])
    component, projected, stored, missed, error, norm_before, norm_after = (math.sqrt(each) for each in sums)
    usual = norm_before * math.sqrt(len(rows) / rows.shape[-1])
    largest = greatest * math.sqrt(vectors) / norm_after if norm_after else 0.0
    return Leak(component, projected, stored, missed, error, usual, norm_before, norm_after, largest)


def _projected(
    packed: Packed, format: Format, grid: Grid, basis: Float[Tensor, "*k d_model"], strength: Amount, along: int
) -> Callable[[int, Part], Tensor]:
    def read(expert: int, part: Part) -> Tensor:
        return project_out(read_part(packed, format, grid, expert, part), basis, strength, along)

    return read


def _rewritten(
    like: Packed,
    format: Format,
    read: Callable[[int, Part], Tensor],
    basis: Float[Tensor, "*k d_model"] | None,
    along: int,
) -> Packed:
    """Quantise what `read` gives for an expert and a part of its matrix; it is asked twice, so that no matrix is held."""
    grid = format.grid(like)
    values, scales = torch.empty_like(like.values), torch.empty_like(like.scales)
    elements, steps = values.view(grid.experts, grid.out, -1), scales.view(grid.counts)
    for expert in range(grid.experts):
        steps[expert] = _steps(like, format, grid, read, expert, along)
        numbers_per_step = finite(like, format.scale_numbers(steps[expert]))
        for part in grid.parts(along):
            target, step = read(expert, part), grid.spread(numbers_per_step[grid.blocks(part)], part)
            if basis is None:
                numbers = format.nearest(target / step)
            else:
                rows = checked_rows(target.shape, basis, along)
                numbers = _quiet(target.movedim(along, 0), step.movedim(along, 0), rows, format).movedim(0, along)
            elements[expert][format.elements(part)] = format.pack(numbers)
    return Packed(like.name, values, scales)


def _steps(
    like: Packed, format: Format, grid: Grid, read: Callable[[int, Part], Tensor], expert: int, along: int
) -> Shaped[Tensor, "r c"]:
    """Return the scales for what `read` gives for an expert."""
    greatest = torch.zeros(grid.counts[1:])
    for part in grid.parts(along):
        here = grid.blocks(part)
        greatest[here] = torch.maximum(greatest[here], grid.greatest(finite(like, read(expert, part))))
    return format.fitted_scales(greatest, like.scales.view(grid.counts)[expert])


def _quiet(
    target: Float[Tensor, "d n"], step: Float[Tensor, "d n"], rows: Float[Tensor, "k d"], format: Format
) -> Float[Tensor, "d n"]:
    """Round `target / step` to numbers whose sums along `rows` are those of `target`, moving weights as little as may be.

    To minimise the squared error under that condition is, by Lagrange, to round `target - factor * row` to nearest, with
    a factor for each column and row of the basis that makes the sum come out (`_balanced`). Further turns mend the columns
    where more than `ENOUGH` is left, each without the weights whose next step is too coarse for it.
    """
    target, step = target.contiguous(), step.contiguous()
    numbers, wanted = target / step, rows @ target
    now = format.nearest(numbers)
    worth = step > 1e-6 * step.max()  # blocks of zeros may have any scale
    enough = ENOUGH * torch.einsum("dn,dn->n", target, target).sqrt() / math.sqrt(len(target))
    for turn in range(min(3, 1 + len(rows))):
        for row, want in zip(rows, wanted, strict=True):
            weight = row[:, None] * step
            move = torch.where(worth, row[:, None] / step, 0.0)
            excess = (weight * now).sum(0) - want
            if turn == 0:
                numbers, now = _balanced(numbers, now, move, weight, excess, format)
                continue
            far = (excess.abs() > enough).nonzero().squeeze(1)
            if not len(far):
                continue
            few, rounded, weight, excess = numbers[:, far], now[:, far], weight[:, far], excess[far]
            move = torch.where(2 * weight.abs() * format.gap(rounded) <= excess.abs(), move[:, far], 0.0)
            few, rounded = _balanced(few, rounded, move, weight, excess, format)
            numbers.index_copy_(1, far, few)
            now.index_copy_(1, far, rounded)
    return now


def _balanced(
    numbers: Float[Tensor, "d n"],
    now: Float[Tensor, "d n"],
    move: Float[Tensor, "d n"],
    weight: Float[Tensor, "d n"],
    excess: Float[Tensor, " n"],
    format: Format,
) -> tuple[Float[Tensor, "d n"], Float[Tensor, "d n"]]:
    """Return `numbers`, and what they round to (`now`), with some of them at the next number of the grid: sums by `weight` lose `excess`, or nearly.

    Those move first that `numbers - factor * move` brings half-way to it at the smallest factor, as long as the sum does not
    lose more, and then the one whose step is nearest to what is left. Rows are unit vectors, so a column's factor is about its
    excess, and moves a number by a small part of a step: all are rounded once more at a factor that is enough, and only those
    that come out otherwise are put in order.
    """
    need = excess.abs()
    factor = excess.sign() * (FURTHER * need + need.square().mean().sqrt() / 2)
    other = format.nearest(torch.addcmul(numbers, move, factor, value=-1))
    for _ in range(DOUBLINGS):
        lost = (weight * (now - other)).sum(0) * excess.sign()
        short = (lost < need).nonzero().squeeze(1)
        if not len(short):
            break
        factor[short] *= 2
        other[:, short] = format.nearest(torch.addcmul(numbers[:, short], move[:, short], factor[short], value=-1))
    flat = (other != now).flatten().nonzero().squeeze(1)
    column = flat % len(need)
    old, new, at, least, jump = (one.flatten()[flat] for one in (now, other, numbers, move, weight))
    jump = (jump * (old - new)).abs().double()
    # The part of its column's factor that moves a number, up to 1.
    reached = ((old + new) / 2 - at).abs() / (least * factor[column]).abs()
    taken, left = _first_of(reached, jump, column, need.double())
    miss = torch.where(taken, torch.inf, (jump - left[column]).abs())
    nearest = left.scatter_reduce(0, column, miss, "amin")  # `left` itself, where no step brings the sum nearer
    taken |= miss == nearest[column]
    for one in (numbers, now):  # made by the caller, and not used as they were any more
        one.view(-1)[flat[taken]] = new[taken]
    return numbers, now


def _first_of(
    reached: Float[Tensor, " entries"],
    jump: Float[Tensor, " entries"],
    column: Int[Tensor, " entries"],
    need: Float[Tensor, " n"],
) -> tuple[Bool[Tensor, " entries"], Float[Tensor, " n"]]:
    """Return which entries come first in their column, as long as their jumps sum to no more than it needs, and what is left.

    By a histogram of each column, so that only those in the class where the sum is passed have to be sorted.
    """
    classes = (reached * CLASSES).long().clamp(max=CLASSES - 1)
    sums = torch.bincount(column * CLASSES + classes, jump, len(need) * CLASSES).view(-1, CLASSES).cumsum(1)
    passed = (sums <= need[:, None]).sum(1)  # the class in which the sum is passed
    taken = classes < passed[column]
    before = torch.where(passed > 0, sums.gather(1, (passed - 1).clamp(min=0)[:, None]).squeeze(1), 0.0)
    open_ = (classes == passed[column]).nonzero().squeeze(1)
    open_ = open_[(column[open_] + reached[open_].double().clamp(max=0.999)).argsort()]
    steps, columns = jump[open_], column[open_]
    total = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
    counts = torch.bincount(columns, minlength=len(need))
    total = total[1:] - total[(counts.cumsum(0) - counts)[columns]]
    fits = before[columns] + total <= need[columns]
    taken[open_[fits]] = True
    left = (need - before).index_add(0, columns[fits], -steps[fits])
    return taken, left
