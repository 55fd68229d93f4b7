"""What a study of positions is asked."""

from __future__ import annotations

import pytest

from abliterate.studies.positions.options import ALPHAS, PositionsOptions, read_alphas


def test_alphas_are_read() -> None:
    assert read_alphas("1,-1,0,0.5") == (-1.0, 0.0, 0.5, 1.0)
    assert PositionsOptions().alphas == ALPHAS == read_alphas(",".join(map(str, ALPHAS)))


@pytest.mark.parametrize("text", ["", "1,-1", "0,1", "0", "0,a", "nan,0", "0,1e9,-1e9"])
def test_alphas_without_both_signs_or_0_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="0 and both signs"):
        read_alphas(text)
