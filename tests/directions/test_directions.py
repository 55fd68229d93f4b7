"""A set of directions."""

from __future__ import annotations

import pytest

from abliterate.directions.methods import difference_in_means
from abliterate.errors import InputError
from fixtures.activations import activations


def test_where_nothing_differs_there_is_no_direction() -> None:
    directions = difference_in_means(activations(0), activations(0), "mean-difference")
    assert not directions.exists(2)
    with pytest.raises(InputError, match="do not differ"):
        directions[2]


def test_places_that_were_not_captured_are_refused() -> None:
    directions = difference_in_means(activations(0), activations(1))
    with pytest.raises(InputError, match="out of range"):
        directions[5]
    with pytest.raises(InputError, match="was not captured"):
        directions.at(2, -3)
