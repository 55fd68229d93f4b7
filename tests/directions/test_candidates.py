"""The rule that chooses among candidates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abliterate.directions.candidates import Candidate, choose, induce_floor
from abliterate.errors import InputError
from fixtures.folders import SHARED

# fmt: off
PUBLISHED = {
    "gemma-2b-it": (18, (-2, 10)), "llama-2-7b-chat-hf": (32, (-1, 14)), "meta-llama-3-8b-instruct": (32, (-5, 12)),
    "qwen-1_8b-chat": (24, (-2, 15)), "yi-6b-chat": (32, (-5, 20)),
}
# fmt: on
"""Layers of the five models of arXiv 2406.11717, and the (position, layer) that its authors chose."""
# Ours: each line would win, were it not for the one thing in its comment.
FIELD = (
    Candidate(layer=9, position=-1, bypass=-9.0, induce=1.0, kl=0.11),  # too much damage
    Candidate(layer=8, position=-1, bypass=-8.0, induce=-0.1, kl=0.01),  # does not induce
    Candidate(layer=16, position=-1, bypass=-7.0, induce=2.0, kl=0.01),  # too deep: int(0.8 * 20) = 16
    Candidate(layer=7, position=-2, bypass=-6.0, induce=0.5, kl=0.099),
    Candidate(layer=6, position=-1, bypass=-5.0, induce=9.0, kl=0.001),  # bypasses less
    Candidate(layer=5, position=-1, bypass=-9.5),  # was never scored
)


def test_the_rule_takes_the_least_bypass_that_it_admits() -> None:
    assert choose(FIELD, 20) is FIELD[3]


@pytest.mark.parametrize("place", range(len(FIELD)))
def test_the_rule_does_not_hang_on_the_order(place: int) -> None:
    assert choose([*FIELD[place:], *FIELD[:place]], 20) is FIELD[3]


def test_a_field_without_a_winner_says_what_to_do() -> None:
    with pytest.raises(InputError, match="--layer N"):
        choose(FIELD[:3], 20)


def test_weak_refusers_are_asked_for_half_the_way() -> None:
    assert induce_floor(3.0, -9.0) == 0
    assert induce_floor(-1.0, -5.0) == -3.0


def arditi() -> Path:
    folder = SHARED / "data" / "arditi2024"
    if not folder.is_dir():
        pytest.skip("the published evaluations of arXiv 2406.11717 are not beside this checkout")
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_rule_returns_the_published_choices(name: str) -> None:
    depth, (position, layer) = PUBLISHED[name]
    rows = json.loads((arditi() / f"{name}.direction_evaluations.json").read_text())
    candidates = [
        Candidate(row["layer"], row["position"], row["refusal_score"], row["steering_score"], row["kl_div_score"])
        for row in rows
    ]
    chosen = choose(candidates, depth)
    assert (chosen.position, chosen.layer) == (position, layer)
