"""The layer that a study works at."""

from __future__ import annotations

import pytest

from abliterate.errors import InputError
from abliterate.studies.layers import layer_of, read_layer


def test_the_layer_is_six_tenths_up_or_the_one_asked_for() -> None:
    assert (layer_of("auto", 24), layer_of("auto", 1), layer_of(3, 8)) == (14, 1, 3)
    with pytest.raises(InputError, match="--layer 8 is out of range"):
        layer_of(8, 8)


def test_a_layer_is_a_word_or_a_number() -> None:
    assert (read_layer("auto"), read_layer("7")) == ("auto", 7)
    with pytest.raises(ValueError, match="give auto"):
        read_layer("seven")
