"""Words for a dtype."""

from __future__ import annotations

import pytest
import torch

from abliterate.models.dtypes import DTYPE_NAMES, read_dtype


def test_every_word_is_a_floating_dtype_of_torch_and_reads_as_its_name() -> None:
    for word, name in DTYPE_NAMES.items():
        assert getattr(torch, name).is_floating_point
        assert read_dtype(word) == name
        assert read_dtype(name) == name
        # torch's own alias, where it has one, is the same dtype
        assert getattr(torch, word, getattr(torch, name)) is getattr(torch, name)
    assert read_dtype("auto") == "auto"
    with pytest.raises(ValueError, match="choose auto, "):
        read_dtype("int8")
