"""Directions on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from abliterate.activations.capture import Activations
from abliterate.directions.files import load_differences, load_direction
from abliterate.directions.methods import difference_in_means
from abliterate.errors import InputError
from fixtures.activations import activations


def test_saved_rows_come_back_to_the_bit(tmp_path: Path) -> None:
    directions = difference_in_means(activations(0), activations(1))
    directions.save(tmp_path / "d.safetensors", -2)
    for layer in range(5):
        assert torch.equal(load_direction(tmp_path / "d.safetensors", f"resid.{layer}"), directions.at(layer, -2))
    with pytest.raises(InputError, match=r"has no resid\.9"):
        load_direction(tmp_path / "d.safetensors", "resid.9")


def test_a_file_that_holds_no_directions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(InputError, match="cannot be read"):
        load_direction(tmp_path / "text", "resid.1")
    save_file({"resid.1": torch.ones(2, 3)}, tmp_path / "matrix")
    with pytest.raises(InputError, match="expected a vector"):
        load_direction(tmp_path / "matrix", "resid.1")


def test_differences_come_back_as_long_as_they_were(tmp_path: Path) -> None:
    harmful, harmless = (
        Activations(torch.randn(9, 2, 4, 6, generator=torch.Generator().manual_seed(seed)), (-2, -1)) for seed in (0, 1)
    )
    found = difference_in_means(harmful, harmless)
    found.save(tmp_path / "directions.safetensors", -2)
    read = load_differences(tmp_path / "directions.safetensors")
    assert sorted(read) == [0, 1, 2, 3]
    for layer, difference in read.items():
        assert torch.allclose(difference, found.difference(layer, -2), atol=1e-6)


def test_lengths_that_are_not_told(tmp_path: Path) -> None:
    save_file({"resid.1": torch.ones(4)}, tmp_path / "theirs.safetensors")
    with pytest.raises(InputError, match="does not tell how long the differences are"):
        load_differences(tmp_path / "theirs.safetensors")
