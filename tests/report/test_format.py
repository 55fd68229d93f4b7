"""Numbers, shares, intervals and rates as people read them."""

from __future__ import annotations

import pytest

from abliterate.evaluation.statistics import Rate
from abliterate.report.format import (
    TIED,
    estimate_html,
    interval,
    mean_html,
    number_html,
    rate_html,
    share_html,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.2914, "0.291"),
        (-0.5, "−0.5"),
        (41.94, "41.9"),
        (0, "0"),
        (12345.0, "12,345"),
        (7.12e-5, f"7.12{TIED}×{TIED}10⁻⁵"),
        (None, "–"),
    ],
)
def test_three_digits_and_powers_of_ten(value: float | None, shown: str) -> None:
    assert number_html(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0, "0%"), (1, "100%"), (0.0461, "4.6%"), (None, "–")])
def test_shares_have_a_digit_unless_none_or_all(value: float | None, shown: str) -> None:
    assert share_html(value) == shown


def test_an_interval_is_one_piece_and_a_rate_has_one() -> None:
    assert interval(0.0, 0.084, True) == f"[0%,{TIED}8.4%]"
    shown = rate_html(Rate(3, 65).to_json())
    assert shown.startswith(f"3/65{TIED}={TIED}4.6%")
    assert shown.endswith("]")


def test_an_estimate_is_a_rate_a_mean_or_a_dash() -> None:
    mean = {"mean": 0.061, "low": 0.043, "high": 0.082}
    assert estimate_html(None) == "–"
    assert estimate_html(mean) == mean_html(mean) == f"0.061 [0.043,{TIED}0.082]"
    assert estimate_html(Rate(3, 65).to_json()) == rate_html(Rate(3, 65).to_json())
