"""Steerings as values, gates, and the divergence that they cause."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from abliterate.interventions import added, calibrated
from abliterate.models.live_model import LiveModel
from abliterate.studies.features.steering import Gate, Steering, drift_of, equal_drift, states_along

TEXTS = ((3, 4, 5, 6, 7), (3, 4, 9, 10))
REPLIES = ((11, 12, 13), (14,))
ROWS = torch.nn.functional.normalize(torch.randn(2, 160, generator=torch.Generator().manual_seed(3)), dim=1)


def logits(live: LiveModel) -> torch.Tensor:
    with torch.no_grad():
        return live.model(torch.tensor(TEXTS[:1])).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["amplify", "calibrate", "raise", "add"])
def test_strengths_are_in_units_and_keys_tell_steerings_apart(tiny_live: LiveModel, kind: str) -> None:
    one = Steering(kind, ROWS, 4, 2.0, 5.0)
    with one.on(tiny_live):
        moved = logits(tiny_live)
    assert not torch.equal(moved, logits(tiny_live))
    assert one.key != one.at(3.0).key
    assert one.key == Steering(kind, ROWS.clone(), 4, 2.0, 5.0).key
    if kind == "calibrate":
        with calibrated(tiny_live.model, ROWS, 4, 10.0):
            assert torch.equal(logits(tiny_live), moved)
    if kind == "add":
        with added(tiny_live.model, 2 * ROWS[0], 4):
            assert torch.equal(logits(tiny_live), moved)
    if kind != "calibrate":
        with one.at(0.0).on(tiny_live):
            assert torch.equal(logits(tiny_live), logits(tiny_live))


def test_a_gate_opens_above_its_threshold() -> None:
    gate = Gate(torch.tensor([1.0, 0.0]), 3, 0.5)
    states = torch.tensor([[0.6, 9.0], [0.4, 9.0]])
    assert gate.opens(states) == [True, False]
    assert gate.condition.holds(states[None]).tolist() == [[True, False]]


def test_nothing_drifts_where_nothing_acts(tiny_live: LiveModel) -> None:
    usual = states_along(tiny_live, TEXTS, REPLIES)
    assert [len(one) for one in usual] == [3, 1]
    still = drift_of(tiny_live, TEXTS, REPLIES, usual, nullcontext)
    assert max(still.kl) < 1e-6
    with torch.no_grad():
        whole = tiny_live.model(torch.tensor([[*TEXTS[0], *REPLIES[0]]])).logits.log_softmax(-1)[0]
    expected = -torch.stack([whole[4 + place, token] for place, token in enumerate(REPLIES[0])]).mean()
    assert still.loss[0] == pytest.approx(float(expected), abs=1e-4)
    moved = drift_of(tiny_live, TEXTS, REPLIES, usual, lambda: Steering("add", ROWS, 4, 20.0).on(tiny_live))
    assert min(moved.kl) > 1e-4
    assert drift_of(tiny_live, (), (), [], nullcontext).kl == ()


def test_strengths_are_matched_by_divergence(tiny_live: LiveModel) -> None:
    usual = states_along(tiny_live, TEXTS, [()] * 2)
    other = Steering("add", ROWS[1:], 4, 10.0)
    wanted = sum(drift_of(tiny_live, TEXTS, [()] * 2, usual, lambda: other.on(tiny_live)).kl) / 2
    found = equal_drift(tiny_live, Steering("add", ROWS, 4, 1.0), TEXTS, wanted, 100.0, steps=12)
    reached = sum(drift_of(tiny_live, TEXTS, [()] * 2, usual, lambda: found.on(tiny_live)).kl) / 2
    assert reached == pytest.approx(wanted, rel=0.1)
