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


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what of a machine decides how sums are rounded: the device, the processor's kernels, the threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"device": name, "cpu": cpu, "threads": torch.get_num_threads()}
