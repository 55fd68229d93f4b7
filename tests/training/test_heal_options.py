"""How to heal."""

from __future__ import annotations

import pytest

from abliterate.errors import InputError
from abliterate.training.examples import TRAINING_METHODS
from abliterate.training.heal_options import RATES, HealOptions


def test_each_method_has_its_own_rate_unless_one_is_given() -> None:
    assert set(RATES) == set(TRAINING_METHODS)
    for method in TRAINING_METHODS:
        assert HealOptions(method).rate == RATES[method]
        assert HealOptions(method, learning_rate=0.5).rate == 0.5


NAMES = ("rank", "learning_rate", "epochs", "steps", "batch_size", "accumulation", "max_length", "beta", "limit")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1])
def test_values_out_of_range_are_named_by_their_flag(name: str, value: int) -> None:
    given = float(value) if name in ("learning_rate", "epochs", "beta") else value
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {given}: must be above 0"):
        HealOptions(**{name: given})  # type: ignore[arg-type]


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="ppo"):
        HealOptions("ppo")
