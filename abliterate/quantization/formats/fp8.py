"""FP8 of DeepSeek-V3 and Qwen3-FP8: float8_e4m3fn, and one scale per block, or per tensor, beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from abliterate.quantization.formats.base import Float8Format, Format, UnreadFormatError, block_of


@dataclass(frozen=True)
class Fp8(Float8Format):
    """transformers' FineGrainedFP8Config, and what DeepSeek-V4 and Mistral Large 4 call by the same name."""

    method: ClassVar[str] = "fp8"
    words: ClassVar[str] = "fp8"
    scale_names: ClassVar[tuple[str, ...]] = ("{}_scale_inv", "{module}.scale", "{module}.qscale_weight")

    @classmethod
    def read(cls, listed: Mapping[str, Any]) -> Format:
        """Return the format that a quantization_config describes; no entry means blocks of 128, null one scale for all."""
        for key, known in (("fmt", "e4m3"), ("expert_dtype", "fp8")):
            if listed.get(key, known) != known:
                raise UnreadFormatError(f"fp8 with {key} {listed[key]!r}")
        block = block_of(listed.get("weight_block_size", (128, 128)))
        return cls(("block" if block else "tensor",), block, listed.get("scale_fmt") == "ue8m0")
