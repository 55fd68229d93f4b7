"""Directions on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from abliterate.activations.capture import Activations
from abliterate.directions.directions import Directions
from abliterate.directions.files import load_differences, load_direction, read_directions, write_rows
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_set_comes_back_to_the_bit_with_what_is_known_of_it(tmp_path: Path, dtype: torch.dtype) -> None:
    differences = torch.randn(2, 5, 12, dtype=torch.float64).to(dtype)
    differences[:, 0] = 0.0  # template tokens do not differ
    made = Directions(differences, (-3, -1), "projected", {"model": "x"})
    made.save(str(tmp_path / "directions.safetensors"))
    for place in (tmp_path, tmp_path / "directions.safetensors"):
        read = Directions.load(place)
        assert read.digest == made.digest
        assert (read.positions, read.method, read.metadata) == ((-3, -1), "projected", {"model": "x"})
    # And everything that reads a run's file reads it: unit rows at the last position, lengths in the record.
    assert torch.equal(load_direction(tmp_path / "directions.safetensors", "resid.3"), made[3])
    assert sorted(load_differences(tmp_path / "directions.safetensors")) == [1, 2, 3, 4]


def test_a_file_of_one_position_as_runs_write_it_loads(tmp_path: Path) -> None:
    made = difference_in_means(activations(0), activations(1), {"model": "x"})
    made.save(tmp_path / "d.safetensors", -2, {"learned": torch.ones(12) / 12**0.5})
    rows, record = read_directions(tmp_path / "d.safetensors")
    assert sorted(rows) == ["learned", *(f"resid.{layer}" for layer in range(5))]
    assert sorted(record) == ["lengths", "method", "model", "position"]
    read = Directions.load(tmp_path / "d.safetensors")
    assert (read.positions, read.method, read.metadata, len(read)) == ((-2,), "mean-difference", {"model": "x"}, 5)
    for layer in range(5):
        assert torch.allclose(read.difference(layer, -2), made.difference(layer, -2), atol=1e-5)


def test_rows_of_another_tool_load_with_the_lengths_that_they_have(tmp_path: Path) -> None:
    save_file({"resid.2": torch.full((4,), 3.0)}, tmp_path / "theirs.safetensors")
    read = Directions.load(tmp_path / "theirs.safetensors")
    assert (len(read), read.method, read.positions) == (3, "unknown", (-1,))
    assert read.difference(2).tolist() == [3.0] * 4
    assert not read.exists(1)


@pytest.mark.parametrize(
    ("rows", "record"),
    [
        ({"other": torch.ones(4)}, {}),
        ({"resid.1": torch.ones(4), "resid.2": torch.ones(5)}, {}),
        ({"resid.99999999": torch.ones(4)}, {}),
        ({"position-1/resid.1": torch.ones(4)}, {"shape": [1, 9**9, 4], "positions": [-1]}),
        ({"position-1/resid.1": torch.ones(4)}, {"shape": [1, 2, 5], "positions": [-1]}),
        ({"position-1/resid.1": torch.ones(4)}, {"shape": [2, 2, 4], "positions": [-1]}),
        ({"position-1/resid.7": torch.ones(4)}, {"shape": [1, 2, 4], "positions": [-1]}),
        ({"position-9/resid.1": torch.ones(4)}, {"shape": [1, 2, 4], "positions": [-1]}),
        ({"position-1/resid.1": torch.ones(4)}, {"shape": "long", "positions": [-1]}),
    ],
)
def test_a_file_that_is_no_set_of_directions_is_refused(
    rows: dict[str, torch.Tensor], record: dict[str, object], tmp_path: Path
) -> None:
    write_rows(tmp_path / "d.safetensors", rows, record)
    with pytest.raises(InputError, match=r"d\.safetensors: "):
        Directions.load(tmp_path / "d.safetensors")
