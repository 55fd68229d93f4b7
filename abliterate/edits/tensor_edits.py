"""The edits of single tensors on disk: of a plain tensor, of the two tensors of a quantised weight, and of one that is
written unquantised. All are pure functions of the source checkpoint, so that a verification can repeat them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.architectures.sites import Site
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.quantized_weight import QuantizedWeight
from abliterate.edits.columns import project_columns
from abliterate.errors import InputError
from abliterate.projection import Amount, Mixing, Projection, component, frobenius, project_out
from abliterate.quantization.requantize import Leak, measure_leak, project_packed, project_scales


@dataclass(frozen=True)
class TensorReport:
    """One edited tensor: its Frobenius norm, and that of its component along the basis, before and after.

    A weight that keeps its quantised format is reported once, dequantised; `leak` is what quantising it again did.
    """

    name: str
    norm_before: float
    norm_after: float
    component_before: float
    component_after: float
    leak: Leak | None = None


@dataclass(frozen=True)
class TensorEdit:
    """One tensor on disk, the axis of its residual stream, and what is removed along it."""

    name: str
    site: Site
    layer: int | None
    axis: int
    strength: Amount
    basis: Float[Tensor, "k d_model"]

    kind: ClassVar[str] = "plain"

    @property
    def projection(self) -> Projection | None:
        """The edit as a projection, which is computed piece by piece; None where it needs the whole tensor (`apply`)."""
        return Projection(self.basis, self.strength, self.axis) if self.kind == "plain" else None

    def apply(self, tensor: Tensor) -> Tensor:
        """Return the edited tensor, in its own dtype."""
        return project_out(tensor, self.basis, self.strength, self.axis)

    def expected(self, original: Checkpoint) -> Tensor:
        """Return the tensor that the edited checkpoint must hold under this name."""
        return self.apply(original.read(self.name))

    def report(self, original: Checkpoint, edited: Checkpoint) -> TensorReport | None:
        """Return what the edit made of the weight; None for the second tensor of a quantised one."""
        return plain_report(self, original.read(self.name), edited.read(self.name))


@dataclass(frozen=True)
class ColumnsEdit(TensorEdit):
    """The norm-preserving edit of a tensor: see `project_columns`."""

    kind: ClassVar[str] = "columns"

    def apply(self, tensor: Tensor) -> Tensor:
        """Return the edited tensor, in its own dtype."""
        return project_columns(tensor, self.basis, self.axis)


@dataclass(frozen=True)
class AddedEdit(TensorEdit):
    """A bias that becomes longer: `strength` times the unit vector in `basis` is added to it, or to each row of several."""

    kind: ClassVar[str] = "added"

    def apply(self, tensor: Tensor) -> Tensor:
        """Return the edited bias, in its own dtype."""
        assert not isinstance(self.strength, Mixing)  # one vector is added
        shift = self.strength * self.basis[0]
        moved: Tensor = tensor.movedim(self.axis, -1).float() + shift.to(tensor.device)
        return moved.to(tensor.dtype).movedim(-1, self.axis)


@dataclass(frozen=True)
class ValuesEdit(TensorEdit):
    """The edit of a quantised weight, as far as its numbers go; `axis` is that of the dequantised weight."""

    weight: QuantizedWeight

    kind: ClassVar[str] = "quantised numbers"

    def apply(self, tensor: Tensor) -> Tensor:
        """Return the edited numbers; their scales are read from the source."""
        weight = self.weight
        return project_packed(weight.read(values=tensor), weight.format, self.basis, self.strength, self.axis).values

    def report(self, original: Checkpoint, edited: Checkpoint) -> TensorReport:
        """Return norms of the dequantised weight and what came back when it was quantised again."""
        before, after = (self.weight.beside(one).read() for one in (original, edited))
        leak = measure_leak(before, after, self.weight.format, self.basis, self.strength, self.axis)
        return TensorReport(self.name, leak.norm_before, leak.norm_after, leak.before, leak.stored, leak)


@dataclass(frozen=True)
class ScalesEdit(TensorEdit):
    """The edit of a quantised weight, as far as its scales go."""

    weight: QuantizedWeight

    kind: ClassVar[str] = "scales"

    def apply(self, tensor: Tensor) -> Tensor:
        """Return the edited scales; their numbers are read from the source."""
        weight = self.weight
        return project_scales(weight.read(scales=tensor), weight.format, self.basis, self.strength, self.axis)

    def report(self, original: Checkpoint, edited: Checkpoint) -> None:
        """Return nothing: the numbers' edit speaks for the weight."""


@dataclass(frozen=True)
class UnquantizedEdit(TensorEdit):
    """The edit of a quantised weight that is written unquantised, in `dtype`, under the name of its parameter.

    At strength 0 the weight is only dequantised: transformers and the servers of models quantise whole modules.
    """

    weight: QuantizedWeight
    dtype: torch.dtype

    kind: ClassVar[str] = "unquantised"

    def expected(self, original: Checkpoint) -> Tensor:
        """Return the weight, dequantised and projected in float32, in its new dtype.

        Raises InputError for numbers that are beyond it.
        """
        weight = self.weight.beside(original).dequantized()
        edited = self.apply(weight) if self.strength else weight
        if edited.abs().max() > torch.finfo(self.dtype).max:
            raise InputError(f"{self.name}: holds numbers beyond {self.dtype}; pass --edited-dtype bfloat16")
        return edited.to(self.dtype)

    def report(self, original: Checkpoint, edited: Checkpoint) -> TensorReport | None:
        """Return norms of the weight before, dequantised, and after; None where it was only dequantised."""
        if not self.strength:
            return None
        return plain_report(self, self.weight.beside(original).dequantized(), edited.read(self.name))


def plain_report(edit: TensorEdit, before: Tensor, after: Tensor) -> TensorReport:
    """Return the norms of a weight and of its component, before and after."""
    return TensorReport(
        edit.name,
        frobenius(before),
        frobenius(after),
        component(before, edit.basis, edit.axis),
        component(after, edit.basis, edit.axis),
    )
