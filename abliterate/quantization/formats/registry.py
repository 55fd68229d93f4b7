"""Every packed format that is known, and which one a config names."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from pathlib import Path
from typing import Any

from abliterate.errors import CheckpointError
from abliterate.quantization.formats.base import SCALES, Companions, Format, _block, _holder, _refused, read_config
from abliterate.quantization.formats.compressed_tensors import _compressed


def read_format(config: Mapping[str, Any]) -> Format | None:
    """Return how the weights behind a config.json are quantised, None when they are not.

    Raises CheckpointError for a method that is not read: an edit there would need its calibration or its kernels.
    """
    listed = _holder(config).get("quantization_config")
    if not listed:
        return None
    if not isinstance(listed, Mapping):
        raise CheckpointError(
            f"config.json: quantization_config: expected an object, found {str(listed)[:80]}; repair it"
        )
    method = str(listed.get("quant_method", "")).lower()
    if method.startswith("bitsandbytes") or listed.get("load_in_4bit") or listed.get("load_in_8bit"):
        raise CheckpointError(
            "config.json: the weights are quantised with bitsandbytes, which is not read; edit the unquantised "
            "checkpoint and quantise it again when it is loaded"
        )
    if method == "mxfp4":
        return Format(method, ("block",), (1, 32), power_of_two=True)
    if method == "compressed-tensors":
        return _compressed(listed)
    if method != "fp8":
        raise _refused(method or "a method without a name")
    for key, known in (("fmt", "e4m3"), ("expert_dtype", "fp8")):
        if listed.get(key, known) != known:
            raise _refused(f"fp8 with {key} {listed[key]!r}")
    # transformers' FineGrainedFP8Config: no entry means blocks of 128, null means one scale for the tensor.
    block = _block(listed.get("weight_block_size", (128, 128)))
    return Format(method, ("block" if block else "tensor",), block, listed.get("scale_fmt") == "ue8m0")


def companions(name: str, on_disk: Container[str], format: Format) -> Companions | None:
    """Return the quantised weight whose numbers are in the tensor `name`, None when that is no such tensor.

    Raises CheckpointError for MXFP4 blocks without their scales; a float8 tensor without is not told by its name.
    """
    parameter = name.removesuffix("_blocks") if format.packed else name
    if format.packed and parameter == name:
        return None
    module = name.removesuffix(".weight")
    for pattern in SCALES[format.method]:
        scales = pattern.format(parameter, module=module)
        if scales in on_disk and scales != name:
            return Companions(parameter, name, scales)
    if format.packed:
        raise CheckpointError(
            f"tensor {name!r}: expected its scales in '{parameter}_scales', which is missing; download it again"
        )
    return None


def quantized_pairs(folder: Path, on_disk: Collection[str]) -> tuple[Format | None, list[Companions]]:
    """Return how the checkpoint in `folder` is quantised, and which of its tensors are one weight."""
    format = format_of(folder)
    found = [companions(name, on_disk, format) for name in on_disk] if format else []
    return format, [one for one in found if one is not None]


def format_of(folder: Path) -> Format | None:
    """Return `read_format` of the config.json in `folder`. Raises CheckpointError when it cannot be read."""
    return read_format(read_config(folder))
