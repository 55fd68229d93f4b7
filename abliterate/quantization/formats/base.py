"""How a checkpoint's weights are quantised: what config.json says of it, and which tensors on disk are one weight.

- `fp8` of DeepSeek-V3 and Qwen3-FP8: float8_e4m3fn and one scale per block, or per tensor, beside it.
- `compressed-tensors`, format `float-quantized`: the same numbers, one scale per tensor, channel or block.
- `mxfp4` of gpt-oss: two e2m1 numbers in a byte, one power of two for 32 of them along the input
  (OCP Microscaling Formats 1.0; transformers, integrations/mxfp4.py).

Every other method is refused with the way out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abliterate.errors import CheckpointError

SCALES: Mapping[str, tuple[str, ...]] = {
    "fp8": ("{}_scale_inv", "{module}.scale", "{module}.qscale_weight"),
    "compressed-tensors": ("{}_scale",),
    "mxfp4": ("{}_scales",),
}
"""What the scales of a weight are called: after the weight, or after its module (DeepSeek-V4, Mistral Large 4)."""

LISTS = ("modules_to_not_convert", "ignored_layers", "ignore")
"""What config.json calls the list of modules that are not quantised."""


@dataclass(frozen=True)
class Format:
    """What config.json says about quantised weights.

    `strategies` are the ways a scale may lie: one per "tensor", "channel" (row) or "block" of `block` rows and
    columns. `power_of_two` says that scales are powers of two.
    """

    method: str
    strategies: tuple[str, ...]
    block: tuple[int, int] | None = None
    power_of_two: bool = False

    @property
    def packed(self) -> bool:
        """Whether two e2m1 numbers share a byte; else numbers are float8_e4m3fn."""
        return self.method == "mxfp4"

    @property
    def top(self) -> float:
        """The greatest number of the grid."""
        return 6.0 if self.packed else 448.0

    @property
    def reach(self) -> float:
        """The greatest number that is rounded to `top` with an error of half a step."""
        return 7.0 if self.packed else 464.0


@dataclass(frozen=True)
class Companions:
    """The tensors on disk that are one quantised weight: the parameter that they stand for, its numbers, their scales."""

    parameter: str
    values: str
    scales: str


def _block(listed: Any) -> tuple[int, int] | None:
    if listed is None:
        return None
    try:
        rows, columns = (int(number) for number in listed)
    except (TypeError, ValueError):
        rows = columns = 0
    if min(rows, columns) < 1:
        raise CheckpointError(
            f"config.json: block size: expected two whole numbers, found {str(listed)[:80]}; repair it"
        )
    return rows, columns


def _refused(what: str) -> CheckpointError:
    return CheckpointError(
        f"config.json: the weights are quantised with {what}, which is not read; use the unquantised checkpoint that "
        "it was made from, or one in fp8, compressed-tensors float-quantized or mxfp4"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config.json of a folder as it is written. Raises CheckpointError when it cannot be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: config.json cannot be read ({error}); is it a model folder?") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder}: config.json: expected an object; is it a model folder?")
    return config


def with_unquantised(config: Mapping[str, Any], modules: Sequence[str], default: Sequence[str]) -> dict[str, Any]:
    """Return the config.json of a quantised checkpoint with `modules` added to those that are not quantised.

    `default` are the modules that transformers leaves alone where there is no such list: with one it would not.
    """
    copy: dict[str, Any] = json.loads(json.dumps(config))
    listed = _holder(copy)["quantization_config"]
    name = next((one for one in LISTS if listed.get(one)), None)
    own = listed[name] if name else default
    name = name or ("ignore" if listed["quant_method"] == "compressed-tensors" else LISTS[0])
    listed[name] = [*own, *(module for module in modules if module not in own)]
    return copy


def _holder(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config.json that says how weights are quantised: all of it, or that of the text decoder."""
    parts = [config, *(config[key] for key in ("text_config", "decoder") if isinstance(config.get(key), Mapping))]
    return next((part for part in parts if part.get("quantization_config")), config)
