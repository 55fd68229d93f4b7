"""Figures are named and written in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

import abliterate
from abliterate.evaluation import figure_names as names
from abliterate.evaluation.statistics import Rate

ROOT = Path(abliterate.__file__).parent
TABLE = Path(names.__file__)
WRITTEN = sorted(path for path in ROOT.rglob("*") if path.suffix in (".py", ".js", ".jinja") and path != TABLE)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_of_a_figure_stands_outside_the_table(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    labels = [*names.UNITS, *(names.prompts_refused(side) for side in ("harmful", "harmless"))]
    quotes = (('"', '"'), ("'", "'"), (">", "<"), ("| ", " |"))
    for label in labels:
        assert not [begin for begin, end in quotes if f"{begin}{label}{end}" in text], label
    for opening in ('f"refused, {', 'f"reply length, {'):
        assert opening not in text


def test_every_divergence_of_a_run_has_a_name_and_a_unit() -> None:
    assert set(names.DIVERGENCES.values()) <= set(names.UNITS)
    assert {names.UNITS[name] for name in names.DIVERGENCES.values()} == {"nats"}


def test_figures_as_plain_text() -> None:
    interval = names.interval_text(names.percent(0.016, 0), names.percent(0.127, 0))
    assert names.rate_text(3, 65, names.percent(3 / 65, 0), interval) == "3/65 = 5% [2%, 13%]"
    assert names.rate_words(Rate(3, 65)) == "3/65 = 5% [2%, 13%]"
    assert names.rate_words(Rate(0, 0)) == "none"
    assert names.mean_text(0.0612, 0.0431, 0.0823) == "0.061 [0.043, 0.082]"
    assert names.mean_text(31.26, 30.0, 32.04, 1) == "31.3 [30.0, 32.0]"
    assert [names.p_text(p) for p in (0.0123, 0.001, 0.0000123)] == ["p 0.012", "p 0.001", "p 1e-05"]
    assert names.with_unit(names.AGREEMENT, "share") == names.AGREEMENT
    assert names.with_unit(names.LOSS_ON_TEXT, "nats") == "cross-entropy, text (nats)"
