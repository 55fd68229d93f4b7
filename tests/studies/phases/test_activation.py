"""Strengths of a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import Phrase
from abliterate.prompts.texts import Text
from abliterate.studies.phases import activation
from abliterate.studies.phases.activation import (
    Act,
    Acting,
    Case,
    Controlled,
    Intervened,
    Made,
    cases_of,
    chosen_alpha,
    effects_of,
    made_turns,
)
from abliterate.studies.phases.record import made_words
from abliterate.studies.phases.told import Told
from abliterate.studies.replies import Unit
from fixtures.labelled_segments import BAKE, FLOUR, STOP, reply
from fixtures.planted import SAFE


def tried(alpha: float, after: tuple[str, ...]) -> Intervened:
    return Intervened("dim", "A1", alpha, "select", ("goes on",) * len(after), after)


def test_the_strength_is_the_one_that_does_most_before_replies_fall_apart() -> None:
    turns, still, apart = "goes on, then turns", "goes on", "incoherent"
    weak, strong, broken = tried(0.5, (turns, still)), tried(1.0, (turns, turns)), tried(2.0, (turns, apart))
    assert chosen_alpha([weak, strong, broken]) == 1.0
    assert chosen_alpha([weak, replace(strong, after=(turns, still)), broken]) == 0.5
    assert chosen_alpha([broken]) == 2.0
    assert chosen_alpha([]) == 1.0


def begun(count: int, turned: int = 0) -> Told:
    """Report phrases in a begun form, whose replies go on; some of them turn by themselves."""
    candidates = (Phrase("a", (f"do {number}",), f"be {number}") for number in range(9999))
    phrases = tuple(one for one in candidates if one.split == "report")[:count]
    texts = tuple(Text((5, number), {}) for number in range(count))
    said = [f"{BAKE} {FLOUR} {STOP}"] * turned + [f"{BAKE} {FLOUR}"] * (count - turned)
    return Told(Unit(load_forms()["open"], "harmful", phrases, texts), tuple(map(reply, said)), ((),) * count)


def added(vector: str, turns: int, of: int) -> Controlled:
    after = ("goes on, then turns",) * turns + ("goes on",) * (of - turns)
    own = Intervened(vector, "A1", 1.4, "report", ("goes on",) * of, after)
    return Controlled(own, (replace(own, vector="random 1", after=("goes on",) * of),))


def test_the_turns_of_the_vector_that_made_most_are_what_a_removal_starts_from() -> None:
    told, vectors = begun(12), {"dim": torch.ones(4), "forward": torch.zeros(4)}
    made = made_turns([added("forward", 6, 12), added("dim", 8, 12)], vectors, told)
    assert made is not None
    assert (made.name, made.alpha, len(made.cases)) == ("dim", 1.4, 8)
    assert torch.equal(made.vector, vectors["dim"])
    assert {case.outcome for case in made.cases} == {"goes on, then turns"}
    assert [case.text for case in made.cases] == [case.text for case in cases_of(told, "A1", ["report"])][:8]
    assert made.words == "dim at 1.4"
    assert made_turns([added("dim", 5, 12)], vectors, told) is None
    assert made_turns([], vectors, None) is None


def test_removal_from_made_turns_says_so_and_spontaneous_ones_come_first(
    monkeypatch: pytest.MonkeyPatch, planted: tuple[LiveModel, torch.Tensor]
) -> None:
    """What adding does, and that taking the vector out undoes it, is planted: `outcomes` answers by what it is given."""

    class Planted(Acting):
        def outcomes(self, told: Told, cases: Sequence[Case], act: Act) -> tuple[str, ...]:
            own = bool(act.vector[0] == 1)
            turns = "goes on, then turns"
            if act.removed:
                return tuple("goes on" if own else case.outcome for case in cases)
            return tuple(turns if own else "goes on" for _ in cases)

    monkeypatch.setattr(activation, "divergences", lambda acting, told: lambda vector, alpha: None)
    acting = Planted(planted[0], 2, 8, 2)
    vectors = {"dim": torch.eye(4)[0]}
    found = effects_of(acting, vectors, None, begun(12), None, alphas=(1.0,), controls=2)
    (removal,) = [pair for pair in found.controlled if pair.own.kind == "R2"]
    assert removal.own.made_by == "dim at 1"
    assert removal.own.rate.count == 12
    assert removal.best.rate.count == 0
    assert removal.test.p < 0.05
    assert "made" in made_words(removal.own)
    alone = effects_of(acting, vectors, None, begun(24, turned=11), None, alphas=(1.0,), controls=2)
    (removal,) = [pair for pair in alone.controlled if pair.own.kind == "R2"]
    assert removal.own.made_by is None
    assert removal.own.rate.total == 11
    assert made_words(removal.own) == ""


def test_what_made_the_turns_is_still_added_while_a_vector_is_taken_out(
    planted: tuple[LiveModel, torch.Tensor],
) -> None:
    live, direction = planted
    told, acting, other = begun(6), Acting(live, 2, 3, 2), torch.randn(64, generator=torch.Generator().manual_seed(3))
    cases = cases_of(told, "A1", ["report"])
    made = Made("dim", 40 * direction, 1.0, tuple(cases))
    alone = acting.replies(told, cases, Act(other, 0.0, removed=True))
    under = acting.replies(told, cases, Act(other, 0.0, removed=True, made=made))
    ends = [[one.cut.tokens[len(case.kept) :] for one, case in zip(own, cases, strict=True)] for own in (alone, under)]
    assert all(end == (SAFE,) * 3 for end in ends[1])
    assert any(end != (SAFE,) * 3 for end in ends[0])
