"""Every quantised format that is read, and which one a checkpoint is in. Any other is refused with the way out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from abliterate.errors import CheckpointError
from abliterate.quantization.formats.base import Companions, Format, UnreadFormatError, read_config
from abliterate.quantization.formats.compressed_tensors import CompressedTensors
from abliterate.quantization.formats.fp8 import Fp8
from abliterate.quantization.formats.mxfp4 import Mxfp4

FORMATS: dict[str, type[Format]] = {
    Fp8.method: Fp8,
    CompressedTensors.method: CompressedTensors,
    Mxfp4.method: Mxfp4,
}
"""The formats by what config.json calls them."""

UNQUANTISED_LISTS = ("modules_to_not_convert", "ignored_layers", "ignore")
"""What config.json calls the list of modules that are not quantised, in these formats and in others."""


def read_format(config: Mapping[str, Any]) -> Format | None:
    """Return how the weights behind a config.json are quantised, None when they are not.

    Raises CheckpointError for a method that is not read: an edit there would need its calibration or its kernels.
    """
    listed = quantised_part(config).get("quantization_config")
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
    try:
        if method not in FORMATS:
            raise UnreadFormatError(method or "a method without a name")
        return FORMATS[method].read(listed)
    except UnreadFormatError as error:
        *known, last = (one.words for one in FORMATS.values())
        raise CheckpointError(
            f"config.json: the weights are quantised with {error}, which is not read; use the unquantised checkpoint "
            f"that it was made from, or one in {', '.join(known)} or {last}"
        ) from error


def format_of(folder: Path) -> Format | None:
    """Return `read_format` of the config.json in `folder`. Raises CheckpointError when it cannot be read."""
    return read_format(read_config(folder))


def quantized_pairs(folder: Path, on_disk: Collection[str]) -> tuple[Format | None, list[Companions]]:
    """Return how the checkpoint in `folder` is quantised, and which of its tensors are one weight."""
    format = format_of(folder)
    pairs = [format.companions(name, on_disk) for name in on_disk] if format else []
    return format, [pair for pair in pairs if pair is not None]


def with_unquantised(config: Mapping[str, Any], modules: Sequence[str], default: Sequence[str]) -> dict[str, Any]:
    """Return the config.json of a quantised checkpoint with `modules` added to those that are not quantised.

    `default` are the modules that transformers leaves alone where there is no such list: with one it would not.
    """
    copy: dict[str, Any] = json.loads(json.dumps(config))
    listed = quantised_part(copy)["quantization_config"]
    usual = FORMATS[str(listed["quant_method"]).lower()].unquantised_list
    name = next((known for known in (*UNQUANTISED_LISTS, usual) if listed.get(known)), usual)
    own = listed.get(name) or default
    listed[name] = [*own, *(module for module in modules if module not in own)]
    return copy


def quantised_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config.json that says how weights are quantised: all of it, or that of the text decoder."""
    parts = [config, *(config[key] for key in ("text_config", "decoder") if isinstance(config.get(key), Mapping))]
    return next((part for part in parts if part.get("quantization_config")), config)
