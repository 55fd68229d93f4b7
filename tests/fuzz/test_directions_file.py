"""Files of directions from strangers: directions or one line."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from abliterate.directions.directions import DIRECTIONS_RECORD
from abliterate.directions.files import load_differences, load_direction, read_directions
from fixtures.mutations import fuzz, json_bytes, mutated_bytes, mutated_value, outcome

RECORD = {"model": "m", "position": -1, "method": "projected", "lengths": {f"resid.{layer}": 2.0 for layer in range(3)}}
NAMES = (
    "resid.0",
    "resid.1",
    "resid.2",
    "resid.foo",
    "resid.-1",
    "resid.²",
    "resid." + "9" * 5000,
    "x\ny",
    "",
    "direction.1",
)
ROWS = (
    torch.ones(8),
    torch.zeros(8),
    torch.full((8,), float("nan")),
    torch.full((8,), float("inf")),
    torch.full((8,), 1e38),
    torch.ones(8, dtype=torch.bfloat16),
    torch.ones(8, dtype=torch.int64),
    torch.ones(2, 4),
    torch.ones(()),
    torch.ones(0),
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    chosen = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    rows = {name: draw(st.sampled_from(ROWS)).clone() for name in chosen}
    record: Any = draw(mutated_value(RECORD) | st.just(RECORD))
    text = draw(st.sampled_from(("[" * 100_000, "", "null")) | st.just(json_bytes(record).decode()))
    content = save(rows, metadata={DIRECTIONS_RECORD: text})
    return content if draw(st.booleans()) else draw(mutated_bytes(content))


def test_directions_or_one_line() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "directions.safetensors"

        @fuzz
        @given(files())
        def target(content: bytes) -> None:
            path.write_bytes(content)
            outcome(lambda: read_directions(path))
            outcome(lambda: load_differences(path))
            for name in NAMES:
                outcome(lambda name=name: load_direction(path, name))  # type: ignore[misc]

        target()
