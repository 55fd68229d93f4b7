"""Prompts, replies and openings of the tiny model."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from abliterate.errors import InputError, NoRefusalsError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.studies.clusters.material import frames_of, material_of
from abliterate.studies.clusters.options import FRAME
from fixtures.tiny_chat import TINY, tiny_chat


@pytest.fixture(scope="module")
def live() -> LiveModel:
    return LiveModel.of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval(), tiny_chat())


def test_a_frame_is_a_form_and_all_are_those_in_a_users_turn() -> None:
    forms = load_forms()
    assert [form.user for form in frames_of(FRAME, forms)] == [FRAME]
    assert "raw-open" not in frames_of("all", forms).names
    with pytest.raises(InputError, match="none of the forms is where"):
        frames_of("all", forms.choose(["raw-open"]))


def test_harmful_prompts_stand_beside_their_matches(live: LiveModel) -> None:
    phrases = load_phrases("builtin:phrases-tiny").first(24)
    found = material_of(live, phrases, frames_of(FRAME, load_forms()), tokens=10)
    assert len(found.harmful) == len(found.harmless) == len(found.names) == 24
    assert sum(found.refused) == 24
    assert found.attributes["first word"][0] == phrases[0].harmful[0].split()[0]
    assert len(found.places("train")) + len(found.places("select", "report")) == 24
    assert found.targets.refusal
    assert found.targets.answer
    assert found.openings
    assert {row["side"] for row in found.replies} == {"harmful", "harmless"}


def test_a_model_that_refuses_too_little_is_refused(live: LiveModel) -> None:
    phrases, forms = load_phrases("builtin:phrases-tiny").first(16), frames_of(FRAME, load_forms())
    with pytest.raises(
        InputError, match=r"\d+ of 16 harmful prompts are refused, and clusters need 24; give more phrases"
    ):
        material_of(live, phrases, forms, tokens=6)
    with pytest.raises(NoRefusalsError, match="the model never refuses: none of its 16 replies"):
        material_of(live, phrases, load_forms().choose(["raw-closed"]), tokens=6)
