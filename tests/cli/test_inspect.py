"""What stands between a writer and the stream, in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from abliterate.cli.inspect import gains


def gain(parameter: str | None = None, offset: float = 0.0, tap: int | None = None, centred: bool = False) -> Any:
    return SimpleNamespace(parameter=parameter, offset=offset, tap=tap, centred=centred)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ((), ""),
        ((gain("model.layers.0.post_norm.weight"),), "post_norm.weight"),
        ((gain("layers.0.norm.weight", offset=1.0),), "1 + norm.weight"),
        ((gain(centred=True),), "centring"),
        (
            (gain("layers.0.norm.weight", centred=True), gain("layers.0.conv.weight", tap=2)),
            "norm.weight, centred; conv.weight[2]",
        ),
    ],
)
def test_each_step_in_order(path: tuple[Any, ...], shown: str) -> None:
    assert gains(SimpleNamespace(paths=(path,))) == shown


def test_further_ways_are_counted() -> None:
    assert gains(SimpleNamespace(paths=((gain("a.b"),), (), ()))) == "a.b and 2 more ways"
