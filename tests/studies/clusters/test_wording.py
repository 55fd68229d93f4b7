"""What clusters share with what is known of their prompts."""

from __future__ import annotations

import numpy

from abliterate.studies.clusters.wording import Shared, is_wording, mutual_information, quartiles, shared_with

LABELS = numpy.repeat([0, 1, 2], 12)


def test_labels_share_all_with_themselves_and_nothing_with_chance() -> None:
    rng = numpy.random.default_rng(0)
    found = shared_with(
        LABELS,
        {"category": [str(label) for label in LABELS], "first word": rng.choice(["a", "b", "c"], 36).tolist(), "frame": ["one"] * 36},
        permutations=200,
    )  # fmt: skip
    assert [one.attribute for one in found] == ["category", "first word"], "an attribute of one value says nothing"
    same, chance = found
    assert (round(same.ami, 6), round(same.ari, 6)) == (1, 1)
    assert same.shown
    assert not chance.shown
    assert abs(chance.ami) < 0.15


def test_mutual_information_of_independent_labels_is_zero() -> None:
    assert abs(mutual_information(numpy.array([0, 0, 1, 1]), numpy.array([0, 1, 0, 1]))) < 1e-12
    assert abs(mutual_information(LABELS, LABELS) - numpy.log(3)) < 1e-12


def test_wording_is_what_exceeds_the_category() -> None:
    category, weak = Shared("category", 0.4, 0.01), Shared("category", 0.4, 0.3)
    first, match = Shared("first word", 0.3, 0.01), Shared("harmless match", 0.5, 0.01)
    assert not is_wording([category, first])
    assert is_wording([category, match])
    assert is_wording([weak, first]), "a category that is not shown counts as none"
    assert not is_wording([category, Shared("harmless match", 0.5, 0.2)])


def test_quartiles_hold_a_quarter_each() -> None:
    assert [quartiles(list(range(40))).count(name) for name in "1234"] == [10, 10, 10, 10]
