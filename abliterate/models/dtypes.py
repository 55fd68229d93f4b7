"""The words for a dtype, and what torch calls it."""

from __future__ import annotations

from collections.abc import Mapping

DTYPE_NAMES: Mapping[str, str] = {
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "float32": "float32",
    "fp32": "float32",
}
"""The words for a dtype, beside `auto`, that every flag takes, and torch's name of each."""


def read_dtype(word: str) -> str:
    """Return torch's name of the dtype that a word stands for, or `auto`. Raises ValueError for an unknown word."""
    if word == "auto":
        return word
    if word not in DTYPE_NAMES:
        raise ValueError(f"unknown; choose auto, {', '.join(DTYPE_NAMES)}")
    return DTYPE_NAMES[word]
