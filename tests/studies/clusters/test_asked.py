"""What a study is asked."""

from __future__ import annotations

from abliterate.studies.clusters.asked import CHOSEN, SHOWN, TRAIN, Asked


def test_a_quick_study_makes_clusters_of_more_and_shows_effects_on_less() -> None:
    assert (Asked().made_of, Asked().held_out) == ((TRAIN,), (CHOSEN, SHOWN))
    quick = Asked(quick=True)
    assert (quick.made_of, quick.held_out) == ((TRAIN, CHOSEN), (SHOWN,))
    assert quick.enough < Asked().enough
    assert quick.controls < Asked().controls


def test_walks_are_of_gradients_alone() -> None:
    assert Asked().walks
    assert Asked("concept", anchor="gradient").walks
    assert not Asked("concept").walks
    assert not Asked("activation", anchor="gradient").walks
