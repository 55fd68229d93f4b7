"""The front of a search."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections.search import front


def test_points_that_no_other_beats_are_the_front(whole: Gathered) -> None:
    shown = front(whole.manifest)
    assert shown is not None
    assert [point["best"] for point in shown["points"]] == [False, True, True]
    assert [point["chosen"] for point in shown["points"]] == [False, True, False]


def test_babble_makes_no_front(whole: Gathered) -> None:
    points = [dict(point) for point in whole.manifest["search"]["points"]]
    points[2]["incoherent"] = 30
    shown = front({**whole.manifest, "search": {**whole.manifest["search"], "points": points}})
    assert shown is not None
    assert [point["best"] for point in shown["points"]] == [False, True, False]


def test_nothing_where_nothing_was_searched(bare: Gathered) -> None:
    assert front(bare.manifest) is None


def test_points_that_lose_refusals_that_should_stay_make_no_front(whole: Gathered) -> None:
    search = whole.manifest["search"]
    kept = [
        {**point, "kept": count, "kept_prompts": 50}
        for point, count in zip(search["points"], (49, 49, 20), strict=True)
    ]
    original = {**search["original"], "kept": 50, "kept_prompts": 50}
    record = {**whole.manifest, "search": {**search, "points": kept, "original": original}}
    shown = front(record)
    assert shown is not None
    assert [point["best"] for point in shown["points"]] == [False, True, False]
    more = front({**record, "search": {**record["search"], "max_lost": 0.6}})
    assert more is not None
    assert [point["best"] for point in more["points"]] == [False, True, True]
    assert "of what should stay" in shown["words"]
    assert shown["removed"] == "harmful"
    calmed = front({**record, "prompts": {"look-alikes": {"spec": "a.txt", "digest": None}}})
    assert calmed is not None
    assert calmed["removed"] == "look-alikes"
