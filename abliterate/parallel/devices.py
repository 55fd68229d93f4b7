"""Which device a model runs on, and what of a machine decides its figures."""

from __future__ import annotations

import platform
from typing import Any

import torch

from abliterate.errors import InputError, first_line


def choose_device(device: str) -> torch.device:
    """Return the device; `auto` is the first accelerator, else the CPU. Raises InputError when it is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device}: not on this machine ({first_line(error)}); use auto or cpu") from error
    return torch.device(device)


def computes_in(dtype: torch.dtype, device: torch.device) -> bool:
    """Tell whether a device multiplies matrices of that dtype with instructions made for it.

    A processor without them gives the same numbers, many times slower: gradients in bfloat16 some eighty times where
    it has AVX2 alone (`benchmarks/dtypes.py`). The question is the one that torch asks before it takes its fast kernels.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return True
    asked = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    return dtype not in asked or bool(getattr(torch.ops.mkldnn, asked[dtype])())


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what of a machine decides how sums are rounded: the device, the processor's kernels, the threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"device": name, "cpu": cpu, "threads": torch.get_num_threads()}
