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
