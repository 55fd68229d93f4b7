"""A set of directions."""

from __future__ import annotations

import pytest
import torch

from abliterate.directions.directions import Directions
from abliterate.directions.methods import difference_in_means
from abliterate.errors import InputError
from fixtures.activations import activations


def test_where_nothing_differs_there_is_no_direction() -> None:
    directions = difference_in_means(activations(0), activations(0))
    assert not directions.exists(2)
    with pytest.raises(InputError, match="do not differ"):
        directions[2]


def test_places_that_were_not_captured_are_refused() -> None:
    directions = difference_in_means(activations(0), activations(1))
    with pytest.raises(InputError, match="out of range"):
        directions[5]
    with pytest.raises(InputError, match="was not captured"):
        directions.at(2, -3)


def test_the_length_of_a_difference_stays_and_a_direction_has_none() -> None:
    differences = torch.zeros(1, 3, 4)
    differences[0, 1] = torch.tensor([0.0, 3.0, 0.0, 4.0])
    one = Directions(differences, (-1,), "mean-difference")
    assert one.depth == 2
    assert one.difference(1).tolist() == [0.0, 3.0, 0.0, 4.0]
    assert one[1].tolist() == pytest.approx([0.0, 0.6, 0.0, 0.8])
    assert [one.exists(layer) for layer in range(3)] == [False, True, False]


def test_the_digest_is_that_of_every_bit_and_its_place() -> None:
    differences = torch.randn(2, 3, 4)
    one = Directions(differences, (-2, -1), "projected")
    assert one.digest == Directions(differences.clone(), (-2, -1), "mean-difference", {"model": "x"}).digest
    other = differences.clone()
    other[0, 0, 0] = torch.nextafter(other[0, 0, 0], torch.tensor(9.0))
    digests = {
        one.digest,
        Directions(other, (-2, -1), "projected").digest,
        Directions(differences, (-1, -2), "projected").digest,
        Directions(differences.transpose(1, 2).contiguous(), (-2, -1), "projected").digest,
        Directions(differences.double(), (-2, -1), "projected").digest,
    }
    assert len(digests) == 5


def test_a_difference_that_is_not_finite_is_called_that() -> None:
    differences = torch.ones(1, 3, 4)
    differences[0, 1, 2] = torch.nan
    with pytest.raises(InputError, match="a direction holds NaN or infinity"):
        Directions(differences, (-1,), "mean-difference").at(1)


def test_they_are_a_sequence_of_layers() -> None:
    differences = torch.randn(2, 5, 12)
    differences[1, 0] = 0.0
    one = Directions(differences, (-2, -1), "projected")
    rows = list(one)
    assert len(one) == len(rows) == 5
    assert not rows[0].any()  # a layer without a direction keeps its place
    for layer in range(1, 5):
        assert torch.equal(rows[layer], one[layer])
        assert torch.equal(one[layer - 5], one[layer])
    assert torch.equal(one[-2:], torch.stack([one[3], one[4]]))
    assert torch.equal(one.at(-1, -2), one.at(4, -2))
    with pytest.raises(InputError, match="do not differ"):
        one[:2]
    for layer in (5, -6):
        with pytest.raises(
            InputError, match=rf"--layer {layer} is out of range; the model has resid\[0\] to resid\[4\]"
        ):
            one[layer]


def test_a_library_is_told_in_its_own_words(keywords: None) -> None:
    with pytest.raises(ValueError, match=r"^layer=99 is out of range; the model has resid\[0\] to resid\[4\]$"):
        difference_in_means(activations(0), activations(1))[99]


def test_they_show_what_they_are_and_no_numbers() -> None:
    one = Directions(torch.randn(2, 5, 12), (-5, -1), "<b>", {"model": "org/name", "revision": None})
    assert repr(one) == "Directions(<b>, resid[0..4], positions -5, -1, d_model 12)"
    assert "&lt;b&gt;" in one._repr_html_()
    assert "org/name" in one._repr_html_()
    assert repr(Directions(torch.randn(1, 5, 12), (-1,), "x")) == "Directions(x, resid[0..4], position -1, d_model 12)"


def test_frame_and_plot_hold_every_place() -> None:
    one = difference_in_means(activations(0), activations(1))
    assert one.to_pandas().loc[(-2, 3)].tolist() == pytest.approx(one.differences[0, 3].tolist())
    lengths = [line.y for line in one.plot().data]
    assert lengths[1][4] == pytest.approx(float(one.difference(4).norm()))
    assert len(lengths) == 2
