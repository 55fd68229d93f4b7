"""The diagonal of effects: what each centroid does to its own cluster."""

from __future__ import annotations

import math

import numpy

from abliterate.studies.clusters.matrix import assigned, cell_means, diagonal_of, diagonality, random_labels

CLUSTERS = numpy.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])


def test_d_does_not_hang_on_how_strong_rows_and_columns_are() -> None:
    cells = numpy.array([[3.0, 1.0], [1.0, 3.0]])
    assert diagonality(cells) == 2
    assert diagonality(cells + numpy.array([[5.0], [0.0]]) + numpy.array([[0.0, 7.0]])) == 2
    assert diagonality(cells[::-1]) == -2


def test_a_cluster_without_prompts_is_left_out() -> None:
    effects = numpy.tile(numpy.array([[1.0], [5.0], [9.0]]), (1, 12))
    cells = cell_means(effects, CLUSTERS, 3)
    assert numpy.isnan(cells[:, 2]).all()
    assert diagonality(cells) == 0
    assert math.isnan(diagonality(cells * numpy.nan))


def test_planted_effects_are_shown_and_noise_is_not() -> None:
    rng = numpy.random.default_rng(4)
    noise = rng.standard_normal((2, 12))
    own = noise + 5 * (numpy.array([[0], [1]]) == CLUSTERS)
    found, chance = (diagonal_of(one, CLUSTERS, permutations=400) for one in (own, noise))
    assert found is not None
    assert chance is not None
    assert found.shown
    assert found.low < found.value < found.high
    assert not chance.shown
    assert diagonal_of(own, CLUSTERS * 0) is None


def test_prompts_go_to_the_nearest_centroid_and_splits_keep_sizes() -> None:
    labels, near = assigned(numpy.array([[1.0, 0.0], [0.6, 0.8]]), numpy.eye(2))
    assert labels.tolist() == [0, 1]
    assert near.tolist() == [1.0, 0.8]
    assert numpy.bincount(random_labels((3, 2), numpy.random.default_rng(0))).tolist() == [3, 2]
