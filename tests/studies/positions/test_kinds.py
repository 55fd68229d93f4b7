"""Kinds of refusals that begin from states of their own."""

from __future__ import annotations

import numpy
import pytest
import torch

from abliterate.studies.positions.cells import Cell
from abliterate.studies.positions.kinds import centred_within, components, kinds_at


def cell(shift: float) -> Cell:
    rng = torch.Generator().manual_seed(0)
    sentences = ("I cannot do that.",) * 20 + ("It is important to ask.",) * 20 + ("",) * 10
    states = torch.randn(50, 1, 12, generator=rng)
    states[20:40, :, 0] += shift
    labels = (1.0,) * 40 + (0.0,) * 10
    return Cell(
        "open", 1, "refused", (4,), states, labels, tuple(map(str, range(50))), ("",) * 50, sentences, (0,) * 50
    )


def test_planted_kinds_are_told_apart_and_equal_ones_not() -> None:
    found = kinds_at({"open/1": cell(6.0)}, 1, 4)
    assert found is not None
    assert found.counts == {"cannot": 20, "important": 20}
    assert found.test is not None
    assert found.test.p < 0.01
    assert found.silhouette > 0.2
    assert len(found.to_json()["points"]) == 40  # type: ignore[arg-type]
    none = kinds_at({"open/1": cell(0.0)}, 1, 4)
    assert none is not None
    assert none.test is not None
    assert none.test.p > 0.01


def test_nothing_is_said_of_a_location_without_refusals() -> None:
    assert kinds_at({"open/1": cell(6.0)}, 2, 4) is None


def test_the_picture_is_of_what_forms_do_not_explain() -> None:
    states = numpy.array([[1.0, 0, 0], [3.0, 0, 0], [10.0, 0, 0], [14.0, 0, 0]])
    centred = centred_within(states, ["a", "a", "b", "b"])
    assert centred[:, 0].tolist() == [-1, 1, -2, 2]
    assert numpy.abs(components(centred)[:, 0]) == pytest.approx([1, 1, 2, 2])
