"""MXFP4: blocks of four-bit floats with a shared power of two."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def _code(numbers: Float[Tensor, "r c"]) -> Shaped[Tensor, "r c"]:
    """Return the four bits of numbers of the e2m1 grid."""
    size = numbers.abs()
    code = torch.where(size <= 2, size * 2, (size + 2).clamp(max=7)).to(torch.uint8)
    return code | torch.signbit(numbers).to(torch.uint8) << 3
