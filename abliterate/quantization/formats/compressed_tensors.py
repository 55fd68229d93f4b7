"""compressed-tensors, format `float-quantized`: float8_e4m3fn, one scale per tensor, channel or block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from abliterate.quantization.formats.base import Float8Format, Format, UnreadFormatError, block_of

READ = ("float-quantized", "naive-quantized")
"""The names of the format of float8 numbers, today's and the first."""


@dataclass(frozen=True)
class CompressedTensors(Float8Format):
    """What vLLM's llm-compressor publishes."""

    method: ClassVar[str] = "compressed-tensors"
    words: ClassVar[str] = "compressed-tensors float-quantized"
    unquantised_list: ClassVar[str] = "ignore"
    scale_names: ClassVar[tuple[str, ...]] = ("{}_scale",)

    @classmethod
    def read(cls, listed: Mapping[str, Any]) -> Format:
        """Return the format that a quantization_config describes: all groups of weights must be float8, in one size of block."""
        what = f"compressed-tensors, format {listed.get('format')!r}"
        groups = listed.get("config_groups")
        if listed.get("format") not in READ or not isinstance(groups, Mapping):
            raise UnreadFormatError(what)
        strategies: dict[str, None] = {}
        blocks: set[tuple[int, int] | None] = set()
        for group in groups.values():
            weights = group.get("weights") if isinstance(group, Mapping) else None
            if not isinstance(weights, Mapping):
                raise UnreadFormatError(f"{what}, with a group of other weights than float8")
            strategy = weights.get("strategy") or {None: "tensor", -1: "channel"}.get(
                weights.get("group_size"), "group"
            )
            float8 = (weights.get("type"), weights.get("num_bits"), weights.get("symmetric", True)) == (
                "float",
                8,
                True,
            )
            own = group.get("format") in (None, *READ)
            if not float8 or not own or strategy not in ("tensor", "channel", "block"):
                raise UnreadFormatError(
                    f"{what}, {weights.get('num_bits')} bits, type {weights.get('type')!r}, by {strategy}"
                )
            strategies[strategy] = None
            if strategy == "block":
                structure = weights.get("block_structure")
                blocks.add(block_of(structure.split("x") if isinstance(structure, str) else structure))
        if len(blocks) > 1 or not strategies:
            raise UnreadFormatError(f"{what}, with {len(blocks)} sizes of block")
        return cls(tuple(strategies), next(iter(blocks), None))
