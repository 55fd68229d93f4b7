"""Two checkpoints on disk held against each other, tensor by tensor, and against the plan between them.

Independent of what wrote them: both are read again, from their files, and the plan is computed again from the original
with the one kernel of the algebra. Nothing is believed of a journal, a manifest or the memory of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.shards import TensorEntry, failing, read_bytes, read_numbers
from abliterate.edits.plan import EditPlan
from abliterate.edits.tensor_edits import ColumnsEdit, TensorEdit, TensorReport
from abliterate.errors import ProofError
from abliterate.parallel.threads import in_threads, one_at_a_time
from abliterate.progress import SILENT, Advance, Progress
from abliterate.projection import Projection
from abliterate.quantization.requantize import LEAK_LIMIT

COMPARED_BYTES = 1 << 20
"""Bytes of two files that are held against each other at once, in a core's cache."""

COMPARED_PIECE = 16 << 20
"""Bytes of a tensor that one thread compares."""

NOISE = 1e-6
"""What the sums of an edit in float32 may differ by from one machine to another, relative to the largest weight."""

TensorStatus = Literal["untouched", "edited", "other"]


@dataclass(frozen=True)
class Verdict:
    """What a tensor of the edited checkpoint is: bit for bit the original, edited as planned, or other.

    `report` is there for tensors of the plan that both checkpoints hold alike; `problem` says what is wrong.
    """

    name: str
    status: TensorStatus
    report: TensorReport | None = None
    problem: str = ""


def verify_tensors(
    plan: EditPlan, original: Checkpoint, edited: Checkpoint, progress: Progress = SILENT
) -> tuple[TensorReport, ...]:
    """Compare every tensor of both checkpoints; return what the edited ones became.

    Raises ProofError naming what is missing, extra, of another shape, or not as planned.
    """
    verdicts = compare_tensors(plan, original, edited, progress)
    require_planned(verdicts)
    return tuple(verdict.report for verdict in verdicts if verdict.report)


def require_planned(verdicts: tuple[Verdict, ...]) -> None:
    """Raise ProofError when a tensor is neither untouched nor edited as planned."""
    others = [verdict for verdict in verdicts if verdict.status == "other"]
    if others:
        more = f" (and {len(others) - 1} more tensors are not as planned)" if len(others) > 1 else ""
        advice = "" if others[0].report and others[0].report.leak else "; edit the original again"
        raise ProofError(f"{others[0].name}: {others[0].problem}{more}{advice}")


def compare_tensors(
    plan: EditPlan, original: Checkpoint, edited: Checkpoint, progress: Progress = SILENT
) -> tuple[Verdict, ...]:
    """Return what every tensor of `edited` is: in the order that the plan gives them, then those that it does not know."""
    layout = plan.layout(original)
    with progress.step("proving every tensor", edited.total_bytes, "B") as advance:
        advance = one_at_a_time(advance)
        verdicts: dict[str, Verdict] = {}
        pairs: list[_Pair] = []
        for name, expected in layout.items():
            verdicts[name] = _unlike(name, expected, edited.tensors.get(name))
            if not verdicts[name].problem:
                pairs.append(_Pair(original, edited, edited.tensors[name], plan.edits.get(name)))
        jobs = [(pair, part) for pair in pairs for part in pair.parts(advance)]
        found: dict[str, list[_Part]] = {}
        for (pair, _), part in zip(jobs, in_threads(job for _, job in jobs), strict=True):
            found.setdefault(pair.after.name, []).append(part)
    verdicts |= {pair.after.name: pair.verdict(found.get(pair.after.name, [])) for pair in pairs}
    extra = [Verdict(name, "other", problem="extra: nothing of this name is expected") for name in edited.tensors]
    return (*verdicts.values(), *(verdict for verdict in extra if verdict.name not in verdicts))


def _unlike(name: str, expected: tuple[str, tuple[int, ...]], found: TensorEntry | None) -> Verdict:
    """Say what of a tensor is different before its bytes are read: problem is empty where nothing is."""
    problem = ""
    if found is None:
        problem = "missing from the edited checkpoint"
    elif expected != (found.dtype, found.shape):
        problem = f"expected {expected[0]} {list(expected[1])}, found {found.dtype} {list(found.shape)}"
    return Verdict(name, "other", problem=problem)


@dataclass(frozen=True)
class _Part:
    """What was found of one part of a tensor; the squares are of norm and component, before and after.

    A part that is all of its tensor has the `report` instead, where there is one.
    """

    equal: bool
    squares: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    report: TensorReport | None = None


@dataclass(frozen=True)
class _Pair:
    """A tensor of the edited checkpoint, of the dtype and shape that it should have, and what made it, if anything did."""

    original: Checkpoint
    edited: Checkpoint
    after: TensorEntry
    edit: TensorEdit | None

    @property
    def before(self) -> TensorEntry:
        """The tensor of the same name in the original, which is there wherever a tensor is not edited as a whole."""
        return self.original.entry(self.after.name)

    def parts(self, advance: Advance) -> Iterator[Callable[[], _Part]]:
        """Yield jobs that compare the tensor part by part."""
        if self.edit is None:
            for start in range(0, self.after.nbytes, COMPARED_PIECE):
                yield partial(self._same_bytes, start, min(start + COMPARED_PIECE, self.after.nbytes), advance)
        elif self.edit.projection is None:
            yield partial(self._as_expected, self.edit, advance)
        else:
            for begin, end in self.edit.projection.pieces(self.after.shape).spans():
                yield partial(self._as_projected, self.edit.projection, begin, end, advance)

    def verdict(self, parts: list[_Part]) -> Verdict:
        """Put together what was found of the parts."""
        name, equal = self.after.name, all(part.equal for part in parts)
        if self.edit is None:
            problem = "" if equal else f"is outside the plan, but differs from the original{self._nan()}"
            return Verdict(name, "untouched" if equal else "other", problem=problem)
        report = parts[0].report if self.edit.projection is None else None
        if self.edit.projection is not None:
            norm, norm_after, along, along_after = (
                math.sqrt(sum(part.squares[index] for part in parts)) for index in range(4)
            )
            report = TensorReport(name, norm, norm_after, along, along_after)
        problem = "" if equal else f"differs from what the plan makes of the original{self._nan()}"
        if equal and report and any(math.isnan(value) for value in vars(report).values() if isinstance(value, float)):
            problem = "holds NaN, as the original does; check the checkpoint that it was made from"
        if equal and report and report.leak and report.leak.too_much:
            problem = (
                f"{report.leak.share:.0%} of its component along the direction came back when it was quantised again, "
                f"{LEAK_LIMIT:.0%} allowed; pass --edited-dtype bf16, or ship an adapter"
            )
        return Verdict(name, "other" if problem else "edited", report, problem)

    def _nan(self) -> str:
        """Say so where the tensor holds NaN, which no edit makes of finite weights."""
        values = self.edited.read(self.after.name)
        return ": it holds NaN" if values.is_floating_point() and bool(values.float().isnan().any()) else ""

    def _same_bytes(self, start: int, end: int, advance: Advance) -> _Part:
        equal = True
        with self._opened() as (one, other):
            for first in range(start, end, COMPARED_BYTES):
                last = min(first + COMPARED_BYTES, end)
                if equal:  # after a difference nothing more is to be learnt
                    left = read_bytes(one, self.before, self.before.start + first, self.before.start + last)
                    right = read_bytes(other, self.after, self.after.start + first, self.after.start + last)
                    equal = _equal(left, right)
                advance(last - first)
        return _Part(equal)

    def _as_expected(self, edit: TensorEdit, advance: Advance) -> _Part:
        expected, found = edit.expected(self.original), self.edited.read(edit.name)
        equal = _equal(expected, found)
        if not equal and edit.kind == ColumnsEdit.kind:  # sums are the machine's here, too
            largest = float(expected.float().abs().max())
            equal = same_but_for_rounding(expected.reshape(-1), found.reshape(-1), largest)
        part = _Part(equal, report=edit.report(self.original, self.edited))
        advance(self.after.nbytes)
        return part

    def _as_projected(self, projection: Projection, begin: int, end: int, advance: Advance) -> _Part:
        pieces, equal = projection.pieces(self.after.shape), True
        with self._opened() as (one, other):
            load, load_after = partial(read_numbers, one, self.before), partial(read_numbers, other, self.after)
            norm, along = pieces.measure(load, begin, end)
            norm_after, along_after = pieces.measure(load_after, begin, end)
            for start, expected in pieces.project(load, begin, end, projection.strength):
                if equal:
                    found = load_after(start, start + len(expected))
                    largest = float(load(start, start + len(expected)).float().abs().max())
                    equal = _equal(expected, found) or same_but_for_rounding(expected, found, largest)
                advance(expected.nbytes)
        return _Part(equal, (norm, norm_after, along, along_after))

    @contextmanager
    def _opened(self) -> Iterator[tuple[FileIO, FileIO]]:
        """Open both files, for one thread."""
        paths = self.original.path(self.before.shard), self.edited.path(self.after.shard)
        with (
            failing(f"{paths[0]} or {paths[1]} cannot be read"),
            paths[0].open("rb", buffering=0) as one,
            paths[1].open("rb", buffering=0) as other,
        ):
            yield one, other


def same_but_for_rounding(expected: Tensor, found: Tensor, largest: float) -> bool:
    """Tell whether two results of one edit differ by no more than the order of the sums in it, which is the machine's.

    Sums in float32 differ by up to `NOISE` of the largest number. That is below a step of a coarser dtype, so few
    numbers can have been rounded the other way, and each by one step. Types of one byte must agree in every bit.
    """
    if not expected.is_floating_point() or expected.itemsize == 1:
        return False
    step = torch.finfo(expected.dtype).eps
    one, other = expected.float(), found.float()
    allowed = step * one.abs().maximum(other.abs()) + NOISE * largest
    few = int((expected != found).sum()) <= max(1, 10 * NOISE / step * len(expected))
    return few and bool(((one - other).abs() <= allowed).all())


def _equal(left: Tensor, right: Tensor) -> bool:
    """Tell whether two contiguous tensors hold the same bytes: numpy compares them faster than torch."""
    one, other = (tensor.contiguous().reshape(-1).view(torch.uint8).numpy() for tensor in (left, right))
    return np.array_equal(one, other)
