"""The table of direction methods: read without torch, and one that is added is a word of --direction."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from abliterate.activations.capture import Activations
from abliterate.cli import main
from abliterate.directions.methods import (
    METHODS,
    Method,
    difference_in_means,
    make_directions,
    projected_difference_in_means,
)
from abliterate.errors import InputError
from abliterate.projection import normalize
from fixtures.activations import activations

TINY = str(Path(__file__).parents[2] / "abliterate" / "data" / "tiny-chat")


def medians(harmful: Activations, harmless: Activations) -> Tensor:
    """A method that the package does not have."""
    return harmful.resid.double().median(0).values - harmless.resid.double().median(0).values


def test_the_table_is_read_without_torch() -> None:
    code = "import sys; from abliterate.directions.methods import METHODS; print(*METHODS, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*METHODS, "False"]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_vector_for_every_place_and_says_what_it_does(name: str) -> None:
    method, (harmful, harmless) = METHODS[name], (activations(0), activations(1))
    made = method.make(harmful, harmless)
    assert made.shape == (2, 5, 12)
    assert bool(torch.isfinite(made).all())
    assert torch.equal(made, make_directions(harmful, harmless, name).differences)
    assert not bool(method.make(harmful, harmful).any())  # where nothing differs there is nothing
    assert method.words
    assert method.source
    assert "\n" not in method.words


def test_an_unknown_method_and_other_positions_are_refused() -> None:
    with pytest.raises(InputError, match="choose among projected, mean-difference"):
        make_directions(activations(0), activations(1), "medians")
    other = Activations(activations(1).resid, (-3, -1))
    with pytest.raises(InputError, match=r"different positions: \(-2, -1\) and \(-3, -1\)"):
        difference_in_means(activations(0), other)


@pytest.mark.slow
def test_a_method_that_is_added_is_a_word_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "medians", Method(medians, "the difference of the medians", "a test"))
    directions = make_directions(activations(0), activations(1), "medians")
    assert directions.method == "medians"
    assert torch.allclose(directions[3], normalize(medians(activations(0), activations(1))[1, 3].float()))
    out = tmp_path / "out"
    words = ["--direction", "medians", "--layer", "2", "--dtype", "float32", "--device", "cpu", "--out", str(out)]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["run", TINY, *words, "--n-train", "16"])
    manifest = json.loads((out / "abliterate.json").read_text())
    assert manifest["direction"]["method"] == "medians"
    assert manifest["command"][manifest["command"].index("--direction") + 1] == "medians"


def test_the_plain_direction_is_the_difference_of_the_means() -> None:
    harmful, harmless = activations(0, 0.5), activations(1)
    directions = difference_in_means(harmful, harmless)
    expected = harmful.resid.double().mean(0) - harmless.resid.double().mean(0)
    assert torch.allclose(directions.difference(3, -2), expected[0, 3].float())
    assert torch.allclose(directions[3], normalize(expected[1, 3].float()))


def test_the_projected_direction_leaves_the_harmless_mean_alone() -> None:
    harmful, harmless = activations(0, 0.5), activations(1, 0.3)
    directions = projected_difference_in_means(harmful, harmless)
    for layer in range(5):
        usual = harmless.mean()[1, layer].float()
        assert abs(float(directions[layer] @ usual)) < 1e-5 * float(usual.norm())


def test_the_named_ways_are_those_of_the_table() -> None:
    harmful, harmless = activations(0, 0.5), activations(1, 0.3)
    for found, name in (
        (difference_in_means(harmful, harmless, {"model": "x"}), "mean-difference"),
        (projected_difference_in_means(harmful, harmless, {"model": "x"}), "projected"),
    ):
        expected = make_directions(harmful, harmless, name)
        assert found.digest == expected.digest
        assert (found.method, found.metadata) == (name, {"model": "x"})
    assert next(iter(METHODS)) == "projected"  # what the command takes
