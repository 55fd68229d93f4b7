"""Spherical k-means against plain k-means on unit rows, and its figures against scikit-learn's."""

from __future__ import annotations

import numpy
import pytest
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics import adjusted_rand_score, silhouette_score

from abliterate.studies.clusters.kmeans import agreement, by_density, in_span, seeds, silhouette, spherical_kmeans, unit


@pytest.fixture
def rows() -> numpy.ndarray:
    rng = numpy.random.default_rng(0)
    centres = rng.standard_normal((3, 90))
    return numpy.concatenate(
        [centre + 0.6 * rng.standard_normal((20 + place, 90)) for place, centre in enumerate(centres)]
    )


def test_clusters_are_those_of_plain_kmeans_on_unit_rows(rows: numpy.ndarray) -> None:
    found = spherical_kmeans(rows * numpy.linspace(0.5, 9, len(rows))[:, None], 3)
    plain = KMeans(3, n_init=10, random_state=0).fit_predict(unit(rows))
    same = max(
        (found.labels == numpy.array(order)[plain]).mean()
        for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    )
    assert same >= 0.95
    assert found.sizes == (22, 21, 20)
    assert numpy.allclose(numpy.linalg.norm(found.centroids, axis=1), 1)


def test_starts_are_as_far_apart_as_the_librarys(rows: numpy.ndarray) -> None:
    vectors, random = unit(rows), numpy.random.RandomState(0)

    def left(chosen: numpy.ndarray) -> float:
        return float((2 - 2 * vectors @ vectors[chosen].T).min(1).sum())

    for k in (2, 5, 8):
        begun = seeds(vectors, k, 200, random)
        assert begun.shape == (200, k)
        own = [left(one) for one in begun]
        library = [left(kmeans_plusplus(vectors, k, random_state=random)[1]) for _ in range(200)]
        error = float(numpy.hypot(numpy.std(own), numpy.std(library))) / 200**0.5
        assert abs(numpy.mean(own) - numpy.mean(library)) < 4 * error + 1e-9
    assert len(set(seeds(numpy.ones((4, 1)), 3, 2, random).flatten().tolist())) >= 1, (
        "rows that are all alike are no error"
    )


def test_one_cluster_is_the_mean_direction(rows: numpy.ndarray) -> None:
    found = spherical_kmeans(rows, 1)
    assert numpy.allclose(found.centroids[0], unit(unit(rows).sum(0)))


def test_coordinates_in_the_span_keep_products(rows: numpy.ndarray) -> None:
    assert in_span(rows).shape == (63, 63)
    assert numpy.allclose(in_span(rows) @ in_span(rows).T, rows @ rows.T)


def test_figures_are_those_of_the_library(rows: numpy.ndarray) -> None:
    rng = numpy.random.default_rng(1)
    labels, other = rng.integers(0, 3, 63), rng.integers(0, 5, 63)
    assert silhouette(unit(rows), labels) == pytest.approx(silhouette_score(unit(rows), labels, metric="cosine"))
    assert agreement(labels, other) == pytest.approx(adjusted_rand_score(labels, other))
    assert agreement(labels, labels) == 1
    assert agreement(labels * 0, labels * 0) == 1
    assert silhouette(unit(rows), labels * 0) == 0


def test_density_gives_a_second_opinion(rows: numpy.ndarray) -> None:
    found = by_density(rows, spherical_kmeans(rows, 3).labels)
    assert found.clusters == 3
    assert found.agreement > 0.7
