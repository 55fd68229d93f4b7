"""Thousands of tensors, grouped so that they stay readable."""

from __future__ import annotations

import pytest

from abliterate.cli.verify import other_line, pattern, share, tensor_json
from abliterate.proofs.tensors import Verdict


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("model.layers.12.mlp.experts.3.down_proj.weight", "model.layers.*.mlp.experts.*.down_proj.weight"),
        ("layer1.weight2", "layer1.weight2"),
        ("h.7", "h.*"),
    ],
)
def test_numbers_between_dots_are_one_pattern(name: str, shown: str) -> None:
    assert pattern(name) == shown


def test_components_add_up_as_lengths_do() -> None:
    assert share([(3.0, 5.0), (4.0, 0.0)]) == pytest.approx(1.0)
    assert share([(0.0, 0.0)]) == 0.0


def test_what_is_wrong_with_a_tensor_stands_beside_its_name() -> None:
    verdict = Verdict("a.weight", "other", problem="its bytes differ")
    assert str(other_line(verdict)) == "a.weight: its bytes differ"
    assert tensor_json(verdict) == {"name": "a.weight", "status": "other", "problem": "its bytes differ"}
