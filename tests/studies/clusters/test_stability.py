"""The number of clusters, beside what has none."""

from __future__ import annotations

import numpy

from abliterate.studies.clusters.kmeans import unit
from abliterate.studies.clusters.stability import Choice, Spread, choose_k, gaussian_like, shuffled_like

RNG = numpy.random.default_rng(0)
ONE = RNG.standard_normal(40) + 0.4 * RNG.standard_normal((40, 40))


def test_a_gaussian_has_the_mean_and_the_covariance_of_the_rows() -> None:
    rows = unit(numpy.random.default_rng(1).standard_normal((500, 3)) * [3, 1, 0.3] + [4, 0, 0])
    drawn = gaussian_like(rows, numpy.random.default_rng(2))
    assert numpy.allclose(unit(drawn.mean(0)), unit(rows.mean(0)), atol=0.05)
    assert numpy.allclose(numpy.linalg.norm(drawn, axis=1), 1)


def test_shuffled_rows_keep_each_coordinates_values_and_nothing_that_ties_them() -> None:
    rows = numpy.random.default_rng(1).standard_normal((400, 1)) * [1, 1, 1] + [2, 0, 0]
    lengths = numpy.linalg.norm(rows, axis=1)
    drawn = shuffled_like(rows, numpy.random.default_rng(2))
    assert numpy.allclose(numpy.linalg.norm(drawn, axis=1), 1)
    assert len(set(lengths.round(9))) == 400
    assert abs(numpy.corrcoef(drawn[:, 1], drawn[:, 2])[0, 1]) < 0.2
    alike = unit(numpy.ones((6, 3)) * [3, 2, 1])
    assert numpy.allclose(shuffled_like(alike, numpy.random.default_rng(2)), alike), "what all rows share stays"


def test_clusters_beyond_the_gaussian_alone_are_none() -> None:
    figures = (0.8, 0.8, 0.5, 0.5, 0.9, 0.1)
    found = Choice((Spread(2, *figures, 0.1, 0.1),))
    one = found.spreads[0]
    assert (one.beyond_null, one.beyond_shuffled, one.beyond_all) == (True, False, False)
    assert (found.k, found.against_drawn, found.candidate) == (1, 1, 2)


def test_rows_around_one_direction_are_no_clusters() -> None:
    told: list[int] = []
    found = choose_k(ONE, null=6, resamples=6, advance=told.append)
    assert found.k == 1
    assert [one.k for one in found.spreads] == [2, 3, 4, 5]
    assert found.candidate > 1
    assert sum(told) == 6


def test_clusters_that_harmless_rows_have_too_are_none() -> None:
    rng = numpy.random.default_rng(3)
    centres = 4 * rng.standard_normal(30) + 2 * rng.standard_normal((2, 30))
    rows = numpy.concatenate([one + rng.standard_normal((16, 30)) for one in centres])
    assert choose_k(rows, None, null=6, resamples=6).k == 2
    assert choose_k(rows, ONE[:, :30], null=6, resamples=6).k == 2
    beside = choose_k(rows, rows, null=6, resamples=6)
    assert (beside.k, beside.against_drawn, beside.candidate) == (1, 2, 2)


def test_the_smallest_number_beyond_all_nulls_is_chosen() -> None:
    def spread(k: int, stability: float, harmless: float) -> Spread:
        return Spread(k, stability, stability, 0.5, 0.5, 0.4, 0.4, harmless, harmless)

    found = Choice((spread(2, 0.6, 0.9), spread(3, 0.8, 0.7), spread(4, 0.9, 0.1)))
    assert (found.k, found.against_drawn, found.candidate) == (3, 2, 3)
    assert Choice(()).candidate == 1
    assert found.to_json()["spreads"][0]["beyond_harmless"] is False
