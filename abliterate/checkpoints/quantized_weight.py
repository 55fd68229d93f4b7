"""The packed weights of a checkpoint: each with the tensors beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.quantization.dequantize import dequantize
from abliterate.quantization.formats.base import Companions, Format, Packed


@dataclass(frozen=True)
class QuantizedWeight:
    """A quantised weight of a checkpoint, whose tensors are `tensors`."""

    checkpoint: Checkpoint
    format: Format
    tensors: Companions

    def read(self, values: Tensor | None = None, scales: Tensor | None = None) -> Packed:
        """Read both tensors, or the one that is not given."""
        return Packed(
            self.tensors.parameter,
            self.checkpoint.read(self.tensors.values) if values is None else values,
            self.checkpoint.read(self.tensors.scales) if scales is None else scales,
        )

    def beside(self, checkpoint: Checkpoint) -> QuantizedWeight:
        """Return the same weight of another checkpoint."""
        return QuantizedWeight(checkpoint, self.format, self.tensors)

    def shape(self) -> tuple[int, ...]:
        """Return the shape of the weight once dequantised. Raises CheckpointError when its tensors do not fit the format."""
        entries = [self.checkpoint.entry(name) for name in (self.tensors.values, self.tensors.scales)]
        packed = self.read(*(torch.empty(one.shape, dtype=one.torch_dtype, device="meta") for one in entries))
        return self.format.shape(packed)

    def dequantized(self) -> Float[Tensor, "..."]:
        """Read the weight in float32."""
        return dequantize(self.read(), self.format)


def quantized_weights(checkpoint: Checkpoint) -> dict[str, QuantizedWeight]:
    """Return the quantised weights of a checkpoint by the names that they would have unquantised."""
    format = checkpoint.quantization.format
    pairs = checkpoint.quantization.pairs
    return {one.parameter: QuantizedWeight(checkpoint, format, one) for one in pairs if format}


def quantised_tensors(checkpoint: Checkpoint) -> dict[str, int]:
    """Return the tensors of quantised weights, and how many numbers of a weight an element of each stands for."""
    format, pairs = checkpoint.quantization.format, checkpoint.quantization.pairs
    if format is None:
        return {}
    return {one.values: format.per_element for one in pairs} | {one.scales: 0 for one in pairs}
