"""All pairs at once are what pairs one by one are, and planted groups are found."""

from __future__ import annotations

import math

import numpy
import pytest
import torch

from abliterate.studies.common import Contrast, compare
from abliterate.studies.positions.similarity import class_test, grouped, joins_of, order_of, silhouette, similarity_of

WIDTH, COUNT = 24, 60


def contrast(direction: torch.Tensor, seed: int, size: float = 4.0) -> Contrast:
    rng = torch.Generator().manual_seed(seed)
    labels = [float(place % 2) for place in range(COUNT)]
    rows = torch.randn(COUNT, WIDTH, generator=rng) + size * torch.tensor(labels)[:, None] * direction
    return Contrast.of(rows, labels, [f"p{place}" for place in range(COUNT)])


def unit(place: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(place), WIDTH).float()


def test_planted_vectors_are_the_same_or_have_nothing_in_common() -> None:
    found = similarity_of({"a": contrast(unit(0), 1), "b": contrast(unit(0), 2), "c": contrast(unit(5), 3)})
    assert found.between("a", "b").value > 0.8
    assert found.between("b", "a") == found.between("a", "b")
    assert abs(found.between("a", "c").value) < 0.5
    assert found.between("a", "c").verdict in ("unrelated", "different")
    assert found.matrix.shape == (3, 3)
    assert (numpy.diag(found.matrix) == 1).all()
    assert set(list(order_of(found.matrix))[-2:]) == {0, 1} or set(list(order_of(found.matrix))[:2]) == {0, 1}


def test_a_pair_is_what_it_is_alone() -> None:
    first, second = contrast(unit(0), 1), contrast(unit(0) + unit(1), 2)
    alone, together = compare(first, second), similarity_of({"a": first, "b": second}).between("a", "b")
    assert together.value == pytest.approx(alone.value)
    assert together.ceiling == pytest.approx(alone.ceiling)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert together.floor == pytest.approx(alone.floor, abs=0.1)


def test_groups_are_found_where_they_are() -> None:
    rng = numpy.random.default_rng(0)
    names = ["one"] * 5 + ["two"] * 5
    states = rng.normal(size=(10, 40)) + numpy.repeat(numpy.eye(2, 40) * 8, 5, axis=0)
    unit_rows = states / numpy.linalg.norm(states, axis=1, keepdims=True)
    planted = grouped(unit_rows @ unit_rows.T, names, permutations=500)
    assert planted is not None
    assert planted.within > planted.between
    assert planted.p < 0.02
    noise = rng.normal(size=(10, 40))
    none = grouped(noise @ noise.T, names, permutations=500)
    assert none is not None
    assert none.p > 0.02
    assert grouped(noise @ noise.T, ["one"] * 10) is None
    assert grouped((noise @ noise.T)[:2, :2], ["one", "two"]) is None


def test_kinds_are_compared_inside_of_their_form() -> None:
    """What separates the forms separates no kinds."""
    rng = numpy.random.default_rng(1)
    forms = ["a"] * 20 + ["b"] * 20
    kinds = ["x"] * 16 + ["y"] * 4 + ["x"] * 4 + ["y"] * 16
    states = rng.normal(size=(40, 30)) + numpy.repeat(numpy.eye(2, 30) * 20, 20, axis=0)
    none = class_test(states, kinds, forms, permutations=300)
    assert none is not None
    assert none.p > 0.02
    states[[place for place, kind in enumerate(kinds) if kind == "y"]] += 6 * numpy.eye(30)[7]
    planted = class_test(states, kinds, forms, permutations=300)
    assert planted is not None
    assert planted.p < 0.02
    assert class_test(states, ["x"] * 40, forms) is None


def test_silhouette_of_clusters_apart_and_of_one() -> None:
    states = numpy.array([[1, 0.0], [1, 0.1], [0, 1.0], [0.1, 1]])
    assert silhouette(states, ["a", "a", "b", "b"]) > 0.9
    assert silhouette(states, ["a", "b", "a", "b"]) < 0
    assert math.isnan(silhouette(states, ["a"] * 4))
    assert order_of(numpy.eye(1)) == (0,)


def test_joins_are_those_of_average_linkage() -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    unit = numpy.random.default_rng(4).standard_normal((7, 5))
    unit /= numpy.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    joins = joins_of(cosines)
    expected = hierarchy.linkage((1 - cosines)[numpy.triu_indices(7, 1)], "average")
    assert [one.height for one in joins] == pytest.approx(expected[:, 2].tolist())
    assert [{one.first, one.second} for one in joins] == [set(map(int, row[:2])) for row in expected]
    assert sorted(joins[-1].members) == list(range(7))
    assert joins_of(numpy.eye(1)) == ()
    assert order_of(numpy.eye(1)) == (0,)
