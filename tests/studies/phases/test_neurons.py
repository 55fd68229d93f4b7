"""When neurons count as sparse."""

from __future__ import annotations

from dataclasses import replace

from abliterate.studies.phases.attribution import Completeness, Concentration
from abliterate.studies.phases.neurons import NeuronFindings


def test_sparse_needs_few_neurons_and_random_ones_that_do_nothing() -> None:
    few = NeuronFindings(
        4000, Completeness(1.0, 1.0), Concentration(1, 0.9, 1.0), (), ((4, 0.3, (0.9, 1.0)), (64, 0.1, (0.8, 0.9)))
    )
    assert few.sparse
    assert few.halving == 4
    assert not replace(few, curve=((4, 0.3, (0.4, 1.0)),)).sparse
    assert not replace(few, curve=((64, 0.3, (0.9, 1.0)),)).sparse
    assert replace(few, curve=((4, 0.8, (0.9,)),)).halving is None
