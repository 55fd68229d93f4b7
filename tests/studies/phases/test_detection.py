"""Vectors side by side."""

from __future__ import annotations

import pytest
import torch

from abliterate.studies.phases.detection import Detected, cosines_of


def test_vectors_are_compared_by_direction_and_given_one_length() -> None:
    vectors = {"dim": torch.tensor([3.0, 0.0]), "forward": torch.tensor([0.5, 0.5])}
    ((*names, cosine),) = cosines_of(vectors)
    assert names == ["dim", "forward"]
    assert cosine == pytest.approx(0.5**0.5)
    found = Detected(2, "", vectors, {}, (), None)
    assert [float(one.norm()) for one in found.at_equal_length().values()] == pytest.approx([3.0, 3.0])
