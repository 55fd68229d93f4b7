"""Vectors side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import Phrase
from abliterate.prompts.texts import Text
from abliterate.studies.phases.detection import Detected, Material, cosines_of, material_of_neurons
from abliterate.studies.phases.run import found_notes
from abliterate.studies.phases.told import Told
from abliterate.studies.replies import Unit
from fixtures.labelled_segments import BAKE, FLOUR, STOP, reply


def told(form: str, texts: list[tuple[int, ...]], replies: list[str]) -> Told:
    """Replies to train phrases in a form, a text for each."""
    candidates = (Phrase("a", (f"do {number}",), f"be {number}") for number in range(999))
    phrases = [one for one in candidates if one.split == "train"][: len(texts)]
    unit = Unit(load_forms()[form], "harmful", tuple(phrases), tuple(Text(one, {}) for one in texts))
    return Told(unit, tuple(map(reply, replies)), ((),) * len(texts))


def material(answers: int, refusals: int) -> Material:
    """Complete prompts that are answered or refused, and begun ones of the same phrases, which are gone on with."""
    count = answers + refusals
    asked = [(5, number) for number in range(count)]
    complete = told("question", asked, [BAKE + " " + FLOUR] * answers + [STOP] * refusals)
    begun = told("reply-open", [(*one, 6) for one in asked], [BAKE] * count)
    return Material(complete, told("question", asked, [BAKE] * count), begun, enough=1)


def test_vectors_are_compared_by_direction_and_given_one_length() -> None:
    vectors = {"dim": torch.tensor([3.0, 0.0]), "forward": torch.tensor([0.5, 0.5])}
    ((*names, cosine),) = cosines_of(vectors)
    assert names == ["dim", "forward"]
    assert cosine == pytest.approx(0.5**0.5)
    found = Detected(2, "", vectors, {}, (), None)
    assert [float(one.norm()) for one in found.at_equal_length().values()] == pytest.approx([3.0, 3.0])


def test_what_stands_in_for_missing_answers_is_said() -> None:
    ways = ("dim", "optimised", "forward", "attribution")
    assert material(10, 10).stand_ins(["dim", "attribution"]) == []
    few = material(2, 10)
    lines = few.stand_ins(ways)
    assert [line.split(":")[0] for line in lines] == ["optimised", "forward"]
    assert "2 complete train prompts are answered" in lines[0]
    assert "12 begun ones (reply-open)" in lines[0]
    assert "10 of 10 prompts have no answer" in lines[1]
    assert few.answered == [text.tokens for text in few.begun.unit.texts]  # type: ignore[union-attr]
    none = material(0, 10)
    assert [line.split(":")[0] for line in none.stand_ins(ways)] == ["optimised", "forward", "attribution"]
    assert material_of_neurons(none)["answered"] == []
    assert replace(none, begun=None).stand_ins(ways) == none.stand_ins(["attribution"])


def test_stand_ins_are_among_the_notes_of_the_study() -> None:
    found = Detected(2, "", {}, {}, (), None, stand_ins=("optimised: of begun prompts",))
    assert "optimised: of begun prompts" in found_notes(found, None, None)
