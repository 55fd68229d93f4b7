"""The compressed-tensors formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.quantization.formats.base import Format, _block, _refused


def _compressed(listed: Mapping[str, Any]) -> Format:
    what = f"compressed-tensors, format {listed.get('format')!r}"
    groups = listed.get("config_groups")
    if listed.get("format") not in ("float-quantized", "naive-quantized") or not isinstance(groups, Mapping):
        raise _refused(what)
    strategies: dict[str, None] = {}
    blocks: set[tuple[int, int] | None] = set()
    for group in groups.values():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if not isinstance(weights, Mapping):
            raise _refused(f"{what}, with a group of other weights than float8")
        strategy = weights.get("strategy") or {None: "tensor", -1: "channel"}.get(weights.get("group_size"), "group")
        float8 = (weights.get("type"), weights.get("num_bits"), weights.get("symmetric", True)) == ("float", 8, True)
        own = group.get("format") in (None, "float-quantized", "naive-quantized")
        if not float8 or not own or strategy not in ("tensor", "channel", "block"):
            raise _refused(f"{what}, {weights.get('num_bits')} bits, type {weights.get('type')!r}, by {strategy}")
        strategies[strategy] = None
        if strategy == "block":
            structure = weights.get("block_structure")
            blocks.add(_block(structure.split("x") if isinstance(structure, str) else structure))
    if len(blocks) > 1 or not strategies:
        raise _refused(f"{what}, with {len(blocks)} sizes of block")
    return Format("compressed-tensors", tuple(strategies), next(iter(blocks), None))
