"""The ways in which replies are made: each is one that decoding takes."""

from __future__ import annotations

from abliterate.models.decoding import Decoding
from abliterate.models.generation_modes import GENERATIONS
from fixtures.models import random_model


def test_each_way_makes_a_config_and_the_usual_one_is_first() -> None:
    model = random_model("llama")
    for generation in GENERATIONS:
        assert Decoding(generation).config(model).num_beams == 1
    assert Decoding() == Decoding(GENERATIONS[0])
