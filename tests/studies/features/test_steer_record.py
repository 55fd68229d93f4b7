"""The verdicts of a steering, with replies that are known."""

from __future__ import annotations

from abliterate.studies.features.steer_record import controls_of, results_of, settings_of, verdicts_of
from fixtures.features import known


def test_a_defence_without_loss_is_shown() -> None:
    first, second, third = verdicts_of(known(18, 1, 6, 5))
    assert [one.verdict for one in (first, second, third)] == ["shown", "shown", "more"]
    assert "random sets 25% to 25%" in first.control
    assert "gate is open for 0% of them and for 100% of the attacks" in second.sentence


def test_what_random_rows_do_as_well_is_not_shown() -> None:
    first, second, third = verdicts_of(known(18, 5, 18, 19))
    assert [one.verdict for one in (first, second, third)] == ["not shown", "not shown", "not shown"]
    assert verdicts_of(known(6, 1, 18, 5))[2].verdict == "less"


def test_settings_and_controls() -> None:
    assert settings_of(known(18, 1, 6, 5))["layer"] == 5
    assert len(controls_of(known(18, 1, 6, 5))["random"]) == 1


def test_the_table_has_every_steering_and_group() -> None:
    held = results_of(known(18, 1, 6, 5))
    assert [one["name"] for one in held["columns"]] == ["none", "calibrate", "calibrate", "difference in means"]
    assert held["columns"][2]["safe"]["question"]["count"] == 18
    assert held["choice"]["chosen"] == ["resid.5"]
    attacks, normal = held["groups"]
    assert (attacks["opens"]["count"], normal["opens"]["count"]) == (20, 0)
    assert attacks["match_opens"] == {**attacks["match_opens"], "count": 1, "total": 4}
    assert "match_opens" not in normal
    assert held["strengths"][0]["kept_to_rule"]
