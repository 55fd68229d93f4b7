"""How values that differ are shown."""

from __future__ import annotations

import pytest

from abliterate.cli.reproduce import shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456789, "0.123457"), (7, "7"), ("a" * 40, "a" * 40), ("a" * 41, "a" * 37 + "..."), (None, "None")],
)
def test_a_value_fits_a_table(value: object, text: str) -> None:
    assert shown(value) == text
