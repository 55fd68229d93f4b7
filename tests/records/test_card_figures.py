"""The figures of a card."""

from __future__ import annotations

import math

from abliterate.records.card_figures import NOT_MEASURED, figures_text, mean_text, number_text, rate_text

RATE = {"count": 3, "total": 4, "rate": 0.75, "low": 0.3, "high": 0.95}
MEAN = {"mean": 0.01234, "count": 4, "low": 0.01, "high": 0.02}
SEEN = {"harmful_refusals": RATE, "harmless_refusals": RATE}
FIGURES = {"reply_tokens": 32, "original": SEEN, "edited": SEEN, "kl": {"first_token": MEAN}}


def test_figures_have_their_counts_and_intervals() -> None:
    assert rate_text(RATE) == "75.0% (30.0% to 95.0%), 3 of 4"
    assert mean_text(MEAN) == "0.0123 (0.01 to 0.02), 4 prompts"
    assert (number_text(123456), number_text(123456.0)) == ("123456", "1.23e+05")


def test_what_is_not_there_was_not_measured() -> None:
    assert rate_text(None) == mean_text(None) == NOT_MEASURED
    assert rate_text({**RATE, "low": math.nan}) == mean_text({**MEAN, "high": None}) == NOT_MEASURED
    assert figures_text(None).endswith("were not measured.")
    assert f"where answered | {NOT_MEASURED} |" in figures_text(FIGURES)


def test_both_modes_of_a_model_that_thinks_are_shown_where_they_were_measured() -> None:
    modes = {
        "harmful": {
            "off": RATE,
            "on": {**RATE, "count": 2, "rate": 0.5},
            "unfinished": {**RATE, "count": 1, "rate": 0.25},
        }
    }
    thinking = {"room": 48, "original": modes, "edited": modes, "kl_over_thoughts": MEAN}
    text = figures_text({**FIGURES, "thinking": thinking})
    assert "| Harmful prompts refused behind a thought | 50.0% (30.0% to 95.0%), 2 of 4 |" in text
    assert "| Harmful prompts with a thought that does not end | 25.0%" in text
    assert "| KL, over the original's thoughts | 0.0123 (0.01 to 0.02), 4 prompts |" in text
    assert "thought" not in figures_text(FIGURES)
