"""The layer that a study works at."""

from __future__ import annotations

import pytest

from abliterate.errors import InputError
from abliterate.studies.layers import layer_of


def test_the_layer_is_six_tenths_up_or_the_one_asked_for() -> None:
    assert (layer_of("auto", 24), layer_of("auto", 1), layer_of(3, 8)) == (14, 1, 3)
    with pytest.raises(InputError, match="--layer 8 is out of range"):
        layer_of(8, 8)
