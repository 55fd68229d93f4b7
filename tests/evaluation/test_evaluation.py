"""An evaluation, and its record."""

from __future__ import annotations

from abliterate.evaluation.evaluation import Evaluation
from abliterate.pipeline.evaluate_options import HARMFUL, HARMLESS, LOOK_ALIKES


def test_the_edit_shows_where_it_must(evaluation: Evaluation) -> None:
    sets = evaluation.to_json()["sets"]
    assert set(sets) == {HARMFUL, HARMLESS, LOOK_ALIKES}
    assert sets[HARMFUL]["paired"]["lost"] > 0.8 * sets[HARMFUL]["model"]["refused"]["total"]
    assert sets[HARMFUL]["paired"]["p"] < 1e-3
    assert sets[HARMFUL]["against"]["refused"]["rate"] > sets[HARMFUL]["model"]["refused"]["rate"]
