"""How replies open."""

from __future__ import annotations

import pytest

from abliterate.errors import NoRefusalsError
from abliterate.studies.clusters.openings import LENGTH, frequent_openings, targets_of

REFUSED = [(1, 2, 3, 4, place) for place in range(5)] + [(1, 9, 9, place) for place in range(3)] + [(6, 6, 1)]
ANSWERED = [(5, place, place) for place in range(4)] + [(1, 2, 8)]


def test_openings_are_what_replies_of_a_side_share_and_others_have_not() -> None:
    assert frequent_openings(REFUSED, ANSWERED) == ((1, 2, 3, 4), (1, 9, 9))
    assert frequent_openings(ANSWERED, REFUSED) == ((5,),)
    assert targets_of(REFUSED, ANSWERED).answer == ((5,),)


def test_replies_that_share_nothing_are_taken_whole() -> None:
    long = tuple(range(20, 40))
    assert frequent_openings([long, (7, 7)], []) == ((7, 7), long[:LENGTH])


def test_the_log_odds_score_takes_refusals_alone() -> None:
    found = targets_of(REFUSED, ANSWERED, "opening")
    assert found.answer == ()
    assert found.refusal


def test_a_side_without_replies_is_refused() -> None:
    for refused, answered in (([], ANSWERED), (REFUSED, [()])):
        with pytest.raises(NoRefusalsError, match="openings of both are held against each other"):
            targets_of(refused, answered)
