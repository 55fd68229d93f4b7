"""How much of a component comes back when an edited weight is quantised again: python benchmarks/quantised.py

A random weight of gpt-oss's or Llama-3-8B's width is quantised, a random direction is projected out of it, and it is
quantised again: rounded to nearest, and as abliterate does it. The last column is of the processor's time.
"""

from __future__ import annotations

import time

import torch

from abliterate.projection import normalize, project_out
from abliterate.quantization.dequantize import dequantize
from abliterate.quantization.formats.base import Packed
from abliterate.quantization.formats.compressed_tensors import CompressedTensors
from abliterate.quantization.formats.fp8 import Fp8
from abliterate.quantization.formats.mxfp4 import Mxfp4
from abliterate.quantization.requantize import measure_leak, project_packed, requantize

FORMATS = {
    "FP8, blocks of 128 x 128": (Fp8(("block",), (128, 128)), (32, 32)),
    "FP8, one scale per tensor": (Fp8(("tensor",)), (1, 1)),
    "FP8, one scale per row": (CompressedTensors(("channel",)), (4096, 1)),
    "FP8, blocks with powers of two": (Fp8(("block",), (128, 128), True), (32, 32)),
    "MXFP4": (Mxfp4(), (1, 2880, 90)),
}


def main() -> None:
    """Print the table."""
    print(f"{'format':32} {'to nearest':>12} {'abliterate':>12} {'error':>8} {'MB/s':>6}")
    for name, (format, scales) in FORMATS.items():
        stacked = isinstance(format, Mxfp4)
        width = 2880 if stacked else 4096
        generator = torch.Generator().manual_seed(0)
        shape = (1, width, width) if stacked else (width, width)
        weight, direction = torch.randn(shape, generator=generator) * 0.02, torch.randn(width, generator=generator)
        direction, axis = normalize(direction), -1 if stacked else 0
        if stacked:
            empty = Packed(
                "w", torch.zeros(1, width, width // 32, 16, dtype=torch.uint8), torch.zeros(scales, dtype=torch.uint8)
            )
        else:
            empty = Packed("w", torch.zeros(shape, dtype=torch.float8_e4m3fn), torch.zeros(scales))
        packed = requantize(weight, empty, format)
        nearest = requantize(project_out(dequantize(packed, format), direction, axis=axis), packed, format)
        begin = time.process_time()
        edited = project_packed(packed, format, direction, axis=axis)
        seconds = time.process_time() - begin
        plain, own = (measure_leak(packed, one, format, direction, axis=axis) for one in (nearest, edited))
        speed = packed.values.numel() / seconds / 1e6
        error = own.error / own.norm_after
        print(f"{name:32} {plain.share:12.2%} {own.share:12.3%} {error:8.2%} {speed:6.1f}")


if __name__ == "__main__":
    main()
