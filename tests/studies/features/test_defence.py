"""The bench: gates leave replies as they are where they are shut, strengths are chosen by the rule, columns say what they say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from abliterate.evaluation.statistics import Rate, mean_of
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.studies.features.defence import (
    Bench,
    Column,
    Tried,
    choose,
    column,
    end_states,
    in_place,
    matched,
    own,
    rate,
)
from abliterate.studies.features.steering import Gate, Steering
from abliterate.studies.features.texts import Heard, attacks_of


@pytest.fixture(scope="module")
def bench(tiny_live: LiveModel) -> Bench:
    """Four harmful and four harmless questions, and a gate that opens for the harmful ones."""
    phrases, forms = load_phrases("builtin:phrases-tiny").first(4), load_forms().choose(["question"])
    (attack,), (normal,) = (attacks_of(tiny_live, phrases, forms, side) for side in ("harmful", "harmless"))
    normal = replace(normal, name="normal", attack=False)
    states = [end_states(tiny_live, one.spans, 5).mean(0) for one in (attack, normal)]
    direction = torch.nn.functional.normalize(states[0] - states[1], dim=0)
    threshold = float((states[0] + states[1]) @ direction / 2)
    return Bench.of(tiny_live, [attack, normal], Gate(direction, 5, threshold), 8, None)


def test_the_gate_is_asked_of_each_prompt(bench: Bench) -> None:
    assert sum(bench.open["question"]) >= 3
    assert sum(bench.open["normal"]) <= 1


@pytest.mark.parametrize("by_token", [False, True])
def test_where_the_gate_is_shut_replies_are_the_model_s_own(bench: Bench, by_token: bool) -> None:
    usual = bench.replies("none", None)
    removing = Steering("amplify", bench.gate.direction[None], 5, -2.0)
    shut = replace(
        bench,
        by_token=by_token,
        gate=replace(bench.gate, threshold=1e9),
        open=dict.fromkeys(bench.open, (False,) * 4),
    )
    assert shut.replies("one", removing, True) == usual
    everywhere = bench.replies("one", removing)
    assert everywhere["question"].safe != usual["question"].safe
    gated = bench.replies("one", removing, True)
    for name, opened in bench.open.items():
        for place, flag in enumerate(opened):
            assert gated[name].tokens[place] == (everywhere if flag else usual)[name].tokens[place]


def test_shut_prompts_do_not_drift(bench: Bench) -> None:
    usual = bench.replies("none", None)
    adding = Steering("add", bench.gate.direction[None], 5, 30.0)
    shut = replace(bench, open=dict.fromkeys(bench.open, (False,) * 4))
    assert bench.drift(usual, adding, False).kl != (0.0,) * 4
    assert shut.drift(usual, adding, True).kl == (0.0,) * 4
    assert shut.drift(usual, adding, True).loss == pytest.approx(
        bench.drift(usual, adding.at(1e-9), False).loss, abs=1e-3
    )


def test_the_strength_that_defends_best_within_the_rule_is_chosen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    does = {0.0: (10, 0, 40), 0.5: (10, 0, 50), 1.0: (12, 5, 70), -2.0: (11, 4, 70), 4.0: (40, 0, 99)}

    def known(bench: Bench, name: str, steering: Steering | None, gated: bool) -> Tried:
        strength = 0.0 if steering is None else steering.strength
        refused, broken, safe = does[strength]
        return Tried(strength, Rate(safe, 100), Rate(refused, 100), Rate(broken, 100))

    monkeypatch.setattr("abliterate.studies.features.defence.tried_at", known)
    adding = Steering("add", bench.gate.direction[None], 5, 0.0)
    chosen = choose(bench, "add", adding, (0.5, 1.0, -2.0, 4.0), False)
    assert (chosen.kept_to_rule, chosen.steering.strength) == (True, 1.0)  # of two that do as well the lesser
    assert [one.strength for one in chosen.tried] == [0.0, 0.5, 1.0, -2.0, 4.0]
    forced = choose(bench, "add", adding, (4.0,), False)
    assert (forced.kept_to_rule, forced.steering.strength) == (False, 4.0)


def test_a_column_is_what_a_steering_does(bench: Bench) -> None:
    usual = bench.replies("none", None)
    chosen = choose(bench, "add", Steering("add", bench.gate.direction[None], 5, 0.0), (0.01,), True)
    found = column(bench, usual, chosen)
    held = found.to_json(bench.groups)
    assert held["attacks"]["count"] == sum(usual["question"].safe)
    assert held["kl"]["mean"] < 1e-3
    assert held["complete"] == held["attacks"]
    assert rate((True, False))["rate"] == 0.5


def test_the_divergence_of_another_steering_is_matched(bench: Bench) -> None:
    other = Steering("add", torch.randn(1, 160, generator=torch.Generator().manual_seed(1)), 5, 3.0)
    found = matched(bench, Steering("add", bench.gate.direction[None] * 20, 5, 1.0), other)
    assert 0 < found.strength <= 8


def test_columns_may_lack_groups_and_steered_replies_go_to_their_places(bench: Bench) -> None:
    some = Column("reminder", False, 0.0, {"question": Heard(((1,),), (True,), (False,))}, None, mean_of([1.0]))
    assert [one.name for one in own(bench.groups, some)] == ["question"]
    assert some.to_json(bench.groups)["normal"]["total"] == 0
    left = Heard(((1,), (2,), (3,)), (True, True, True), (False,) * 3)
    moved = Heard(((9,),), (False,), (True,))
    assert in_place(moved, [False, True, False], left) == Heard(
        ((1,), (9,), (3,)), (True, False, True), (False, True, False)
    )
